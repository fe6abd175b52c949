//! Runs that are killed or told to stop.

use std::os::unix::process::ExitStatusExt;

use ff_core::random::{Purpose, below, generator};
use fs_err as fs;

use super::{
    assert_same_as_whole, bytes, checkpoints, fresh, go_on, place, position, records, resume, start_and_wait,
    with_fault,
};
use crate::workplace::{Workplace, assert_exit, json, stderr};

/// Where a process is killed: points that a run comes by, and up to which of its visits there. A run of the recipe
/// comes by all of them, one that was resumed late by some.
const POINTS: [(&str, u32); 8] = [
    ("create", 24),
    ("write", 24),
    ("sync", 40),
    ("rename", 30),
    ("link", 20),
    ("remove", 8),
    ("step", 4),
    ("evaluate", 8),
];

/// The invariant that the project is built on, under SIGKILL at moments that are drawn: between steps, in a validation,
/// in the middle of writing a checkpoint, and while the newest one is put in its place. Each kill is followed by a
/// start in the same folder; a run that comes to its end is compared, and the next begins.
///
/// Four kills; with `FAIRFACE_SOAK` in the environment 50, which take some minutes.
#[test]
fn killed_at_random_points_and_resumed_is_the_same_bytes() {
    let wanted = if std::env::var_os("FAIRFACE_SOAK").is_some() { 50 } else { 4 };
    let place = place();
    let mut random = generator(Purpose::Order, 13, 0, 0);
    let (mut kills, mut run) = (0, 0);
    while kills < wanted {
        let name = format!("run-{run}");
        let goes_on = place.path(&name).join("config.toml").exists();
        let args = if goes_on { resume(&name).to_vec() } else { fresh(&place, &name) };
        let (point, visits) = POINTS[below(&mut random, POINTS.len() as u32) as usize];
        let fault = format!("kill@{point}#{}", 1 + below(&mut random, visits));
        let output = with_fault(&place, &args, &fault);
        if output.status.signal() == Some(9) {
            kills += 1;
            eprintln!("kill {kills}: {fault} of {name}");
            continue;
        }
        assert_exit(&output, 0);
        assert_same_as_whole(&place, &name);
        fs::remove_dir_all(place.path(&name)).unwrap();
        run += 1;
    }
    let name = format!("run-{run}");
    if !place.path(&name).join("config.toml").exists() {
        assert_exit(&place.run(&fresh(&place, &name)), 0);
    }
    go_on(&place, &name);
    assert_same_as_whole(&place, &name);
    let left = checkpoints(&place, &name);
    assert!(left.iter().all(|name| !name.contains(['.', '~'])), "nothing is left over: {left:?}");
}

/// Half a record, as a kill in the middle of a write leaves it.
#[test]
fn half_a_record_is_dropped() {
    let place = place();
    let killed = with_fault(&place, &fresh(&place, "run"), "kill@step:4");
    assert_eq!(killed.status.signal(), Some(9));
    let metrics = place.path("run/metrics.jsonl");
    fs::write(&metrics, fs::read_to_string(&metrics).unwrap() + "{\"kind\":\"step\",\"ste").unwrap();
    go_on(&place, "run");
    assert_same_as_whole(&place, "run");
}

/// Before there is a checkpoint to go on from, nothing says that the folder holds a run.
#[test]
fn a_run_killed_before_its_first_step_goes_on_or_begins_again() {
    let place = Workplace::new();
    let args = ["--freeze-backbone", "--epochs", "1", "--batch-size", "8", "--run-dir", "run"];
    let args = place.train_args(&args);
    for point in ["kill@rename:checkpoints/step-0", "kill@link:last", "kill@rename:run/config.toml"] {
        assert_eq!(with_fault(&place, &args, point).status.signal(), Some(9), "{point}");
        let refused = place.run(&resume("run"));
        assert_exit(&refused, 1);
        assert!(stderr(&refused).contains("expected a run folder"), "{}", stderr(&refused));
    }
    assert_eq!(with_fault(&place, &args, "kill@step").status.signal(), Some(9));
    assert_eq!(checkpoints(&place, "run"), ["last", "step-0"]);
    go_on(&place, "run");
    let reference = args.iter().map(|&arg| if arg == "run" { "reference" } else { arg }).collect::<Vec<_>>();
    assert_exit(&place.run(&reference), 0);
    for name in ["model.safetensors", "state.safetensors", "state.json"] {
        assert!(bytes(&place, "run", name) == bytes(&place, "reference", name), "{name}");
    }
}

/// It was said to be done: no record, no `best`, exit code 0.
#[test]
fn a_run_stopped_in_its_last_validation_is_evaluated_when_it_goes_on() {
    let place = Workplace::new();
    fs::write(place.path("often.toml"), "[run]\ncheckpoint_steps = 1\n").unwrap();
    let args =
        ["--freeze-backbone", "--epochs", "1", "--config", "often.toml", "--batch-size", "8", "--run-dir"];
    for (run, fault) in [("killed", "kill@evaluate#2"), ("stopped", "wait@evaluate#2")] {
        let args = place.train_args(&[&args[..], &[run]].concat());
        if run == "killed" {
            assert_eq!(with_fault(&place, &args, fault).status.signal(), Some(9));
        } else {
            assert_eq!(start_and_wait(&place, &args, fault).go_on_after("-INT").0, Some(130));
        }
        assert_eq!(position(&place, run)["evaluated"], false);
        let resumed = place.run(&["train", "--resume", "--run-dir", run, "--json"]);
        assert_exit(&resumed, 0);
        assert!(json(&resumed)["val"]["age"]["accuracy"].is_f64(), "{}", json(&resumed));
        assert_eq!(records(&place, run, "epoch").len(), 1);
        let position = position(&place, run);
        assert_eq!(
            (&position["epoch"], &position["evaluated"], &position["best_step"]),
            (&1.into(), &true.into(), &1.into())
        );
        assert!(place.path(run).join("checkpoints/best").exists());
        let again = place.run(&resume(run));
        assert_exit(&again, 0);
        assert!(stderr(&again).contains("nothing is left to train: train.epochs is 1"), "{}", stderr(&again));
        assert_eq!(records(&place, run, "epoch").len(), 1, "once is enough");
    }
}

#[test]
fn ctrl_c_leaves_a_checkpoint_that_resumes() {
    let place = Workplace::new();
    let args = place.train_args(&["--batch-size", "4", "--epochs", "500", "--run-dir", "run"]);
    let (code, said) = start_and_wait(&place, &args, "wait@step:3").go_on_after("-INT");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("train --resume --run-dir run"), "{said}");
    assert_eq!(position(&place, "run")["step"], 2);
    let resumed = place.run(&["train", "--resume", "--run-dir", "run", "--max-steps", "3", "--json"]);
    assert_exit(&resumed, 0);
    assert_eq!(json(&resumed)["steps"], 3);
}

#[test]
fn a_termination_signal_ends_a_run_as_ctrl_c_does() {
    let place = place();
    let waiting = start_and_wait(&place, &fresh(&place, "run"), "wait@step:4");
    assert_eq!(waiting.go_on_after("-TERM").0, Some(130));
    assert_eq!(position(&place, "run")["step"], 3);
    go_on(&place, "run");
    assert_same_as_whole(&place, "run");
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let place = Workplace::new();
    let args = place.train_args(&["--batch-size", "4", "--run-dir", "run"]);
    let waiting = start_and_wait(&place, &args, "wait@step");
    let second = place.run(&resume("run"));
    waiting.kill();
    assert_exit(&second, 1);
    assert!(stderr(&second).contains("another process is training in this folder"), "{}", stderr(&second));
}
