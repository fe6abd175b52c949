//! Runs that the ranks of an MPI job share: as `mpirun` starts them, and as they end.

use std::process::{Command, Output};

use ff_core::fault::{GATE, VARIABLE};
use ff_core::random::{Purpose, below, generator};
use fs_err as fs;

use super::{bytes, go_on, losses, place, position};
use crate::workplace::{Workplace, assert_exit, json, stderr};

/// Four batches an epoch, two a step; 36 images are computed.
const SETTINGS: [&str; 11] = [
    "--config",
    "recipe.toml",
    "--backbone",
    "resnet18",
    "--image-size",
    "64",
    "--threads",
    "1",
    "--accumulate",
    "2",
    "--batch-size",
];

fn fresh<'a>(place: &Workplace, run: &'a str) -> Vec<&'a str> {
    let args = [&SETTINGS[..], &["2", "--init", "random", "--run-dir", run]].concat();
    place.train_args(&args)
}

fn is_open_mpi() -> bool {
    let version = Command::new("mpirun").arg("--version").output().unwrap();
    String::from_utf8_lossy(&version.stdout).contains("Open MPI")
}

/// A job of two ranks, each with its own variables.
fn job(place: &Workplace, args: [&[&str]; 2], variables: [&[(&str, &str)]; 2]) -> Output {
    let mut mpirun = place.wrapped("mpirun");
    if is_open_mpi() {
        mpirun.args(["--oversubscribe", "--bind-to", "none"]);
        mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    for (rank, (args, variables)) in args.into_iter().zip(variables).enumerate() {
        mpirun.args(if rank == 0 { &["-n", "1", "env"][..] } else { &[":", "-n", "1", "env"] });
        mpirun.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        mpirun.arg(env!("CARGO_BIN_EXE_fairface")).args(args);
    }
    let output = mpirun.output().unwrap();
    // Open MPI's mpirun does not wait for those that it has killed: the run is free when they are gone.
    if let Some(at) = args[0].iter().position(|arg| *arg == "--run-dir")
        && let Ok(lock) = fs::File::open(place.path(args[0][at + 1]).join("run.lock"))
    {
        lock.file().lock().unwrap();
    }
    output
}

/// A job of two ranks of which one meets a fault.
fn job_with_fault(place: &Workplace, args: &[&str], rank: usize, fault: &str) -> Output {
    let gate = place.path("gate");
    let faulty = [(VARIABLE, fault), (GATE, gate.to_str().unwrap())];
    let variables: [&[(&str, &str)]; 2] = if rank == 0 { [&faulty, &[]] } else { [&[], &faulty] };
    job(place, [args, args], variables)
}

/// What `place` has of a run that one process took to its end.
fn place_with_whole() -> Workplace {
    let place = place();
    assert_exit(&place.run(&fresh(&place, "whole")), 0);
    place
}

#[track_caller]
fn assert_same_as_whole(place: &Workplace, run: &str) {
    for name in ["model.safetensors", "model_ema.safetensors", "state.safetensors", "state.json"] {
        assert!(bytes(place, run, name) == bytes(place, "whole", name), "{name} of {run} differs");
    }
    assert_eq!(losses(place, run), losses(place, "whole"));
}

#[test]
fn two_ranks_come_to_the_bytes_of_one_and_the_first_alone_speaks() {
    let place = place_with_whole();
    let args = [&fresh(&place, "shared")[..], &["--json"]].concat();
    let output = job(&place, [&args, &args], [&[], &[]]);
    assert_exit(&output, 0);
    assert_eq!(json(&output)["steps"], 6);
    assert_eq!(stderr(&output).matches("run     shared").count(), 1, "{}", stderr(&output));
    assert_same_as_whole(&place, "shared");
}

#[test]
fn a_bench_of_two_ranks_adds_their_gradients() {
    let args = ["bench", "ranks", "--splits", "splits", "--batch-size", "2", "--steps", "1", "--json"];
    let output = job(&place(), [&args, &args], [&[], &[]]);
    assert_exit(&output, 0);
    assert_eq!(json(&output)["ranks"], 2);
    assert!(json(&output)["sum_ms"].as_f64().unwrap() > 0.0);
}

/// SIGKILL of either rank at moments that are drawn, then all of them again; now and then one process goes on alone.
/// Three kills; with `FAIRFACE_SOAK` in the environment twenty.
#[test]
fn a_rank_that_is_killed_ends_the_job_and_costs_nothing() {
    let points = [("step", 6), ("evaluate", 6), ("rename", 20), ("write", 20), ("link", 12)];
    let wanted = if std::env::var_os("FAIRFACE_SOAK").is_some() { 20 } else { 3 };
    let place = place_with_whole();
    let mut random = generator(Purpose::Order, 17, 0, 0);
    let (mut kills, mut run) = (0, 0);
    loop {
        let name = format!("run-{run}");
        let goes_on = place.path(&name).join("config.toml").exists();
        let args = if goes_on { super::resume(&name).to_vec() } else { fresh(&place, &name) };
        let output = if kills < wanted {
            // The other one writes nothing: it is killed at what both come by.
            let rank = below(&mut random, 2) as usize;
            let (point, visits) = points[below(&mut random, if rank == 0 { 5 } else { 2 }) as usize];
            let fault = format!("kill@{point}#{}", 1 + below(&mut random, visits));
            eprintln!("{fault} on rank {rank} of {name}");
            job_with_fault(&place, &args, rank, &fault)
        } else if goes_on && kills % 2 == 1 {
            go_on(&place, &name);
            assert_same_as_whole(&place, &name);
            break;
        } else {
            job(&place, [&args, &args], [&[], &[]])
        };
        if output.status.success() {
            assert_same_as_whole(&place, &name);
            fs::remove_dir_all(place.path(&name)).unwrap();
            run += 1;
            if kills >= wanted {
                break;
            }
        } else {
            assert!(kills < wanted, "{}", stderr(&output));
            kills += 1;
        }
    }
}

#[test]
fn whatever_ends_one_rank_ends_both_with_a_word_of_why() {
    let place = place();
    // Which rank, what happens to it, what it says, and how the job ends.
    let cases = [
        (1, "panic@step:3", "rank 1: error: this is a bug in fairface: a test asked for it at Step 3", 101),
        (0, "enospc@write:metrics.jsonl#2", "error: run/metrics.jsonl: No space left on device", 1),
        (1, "emfile@step:3", "rank 1: error: Too many open files", 1),
        (1, "wait@step:3", "error: step 3: rank 0 waits for the others, gathering records", 75),
    ];
    for (rank, fault, said, code) in cases {
        let args = [&fresh(&place, "run")[..], &["--timeout", "5"]].concat();
        let output = job_with_fault(&place, &args, rank, fault);
        assert_exit(&output, code);
        assert!(stderr(&output).contains(said), "{fault}: {}", stderr(&output));
        assert_eq!(stderr(&output).matches("error: ").count(), 1, "{fault}: {}", stderr(&output));
        fs::remove_dir_all(place.path("run")).unwrap();
    }
}

#[test]
fn ranks_that_were_started_differently_do_not_begin() {
    let place = place();
    let other = [&fresh(&place, "run")[..], &["--lr", "0.5"]].concat();
    let output = job(&place, [&fresh(&place, "run"), &other], [&[], &[]]);
    assert_exit(&output, 1);
    let said = "error: rank 1 differs from rank 0 in optimizer.lr: expected 0.0006, found 0.5";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
    assert!(!place.path("run/config.toml").exists());
}

/// Before MPI is there to ask whether the others say it too.
#[test]
fn a_flag_that_cannot_be_used_is_told_once() {
    let place = place();
    let wrong = [&fresh(&place, "run")[..], &["--batch-sise", "4"]].concat();
    let output = job(&place, [&wrong, &wrong], [&[], &[]]);
    assert_exit(&output, 2);
    assert_eq!(stderr(&output).matches("Usage: ").count(), 1, "{}", stderr(&output));
    // MPICH's launcher lets a rank be that has not begun with MPI, and it says one line.
    let lines = if is_open_mpi() { 1 } else { 2 };
    assert_eq!(stderr(&output).matches("'--batch-sise'").count(), lines, "{}", stderr(&output));
    // Whoever has it alone says it, and who that is; by MPICH the others would wait for it.
    if is_open_mpi() {
        let output = job(&place, [&fresh(&place, "run"), &wrong], [&[], &[]]);
        assert_exit(&output, 2);
        let said = "rank 1: error: unexpected argument '--batch-sise'";
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!place.path("run/config.toml").exists());
    }
    let output = job(&place, [&["train", "--help"], &["train", "--help"]], [&[], &[]]);
    assert_exit(&output, 0);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(help.matches("--reduce-dtype").count(), 1, "{help}");
}

/// A job that is ended by its launcher, as by SLURM before its time is over.
#[test]
fn a_rank_that_is_told_to_stop_stops_all() {
    let place = place_with_whole();
    let args = fresh(&place, "run");
    let gate = place.path("gate");
    let waits = [(VARIABLE, "wait@step:3"), (GATE, gate.to_str().unwrap())];
    let stopped = std::thread::scope(|scope| {
        let job = scope.spawn(|| job(&place, [&args, &args], [&[], &waits]));
        while !gate.exists() {
            assert!(!job.is_finished(), "the job ended before step 3");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let gate = gate.to_str().unwrap();
        // The one that waits at the gate has it among its variables.
        let find = format!(
            "exec 2>/dev/null; for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ | grep -qx '{GATE}={gate}' \
             && [ \"$(cat $p/comm)\" = fairface ] && kill -TERM ${{p#/proc/}}; done; true"
        );
        assert!(Command::new("sh").args(["-c", &find]).status().unwrap().success());
        // What catches the signal is a thread of its own.
        std::thread::sleep(std::time::Duration::from_millis(200));
        fs::remove_file(gate).unwrap();
        job.join().unwrap()
    });
    assert_exit(&stopped, 130);
    assert_eq!(position(&place, "run")["step"], 2);
    go_on(&place, "run");
    assert_same_as_whole(&place, "run");
}
