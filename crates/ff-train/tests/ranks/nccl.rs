//! The same with processes, a GPU each, on the stand-ins for libcuda and libnccl: `.ci/cuda-on-cpu`. They compute on
//! the processor, as candle has no kernels there; what they say to each other goes over their GPUs.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ff_train::ranks::launcher;
use ff_train::ranks::nccl::NcclRanks;

use super::*;

/// For what is not stuck on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
const PLACE: &str = "FF_TEST_PLACE";
const RUN: &str = "FF_TEST_RUN";

#[test]
#[ignore = "a process of the jobs below"]
fn rank() {
    let variable = |name| std::env::var(name).unwrap();
    let config = builder(Path::new(&variable(PLACE)), &variable(RUN)).resolve().unwrap();
    let place = launcher::place().unwrap().unwrap();
    let done = NcclRanks::join(&place, PATIENCE).and_then(|mut ranks| {
        train_on_ranks(&mut ranks, &config, Start::Fresh, &mut (), &AtomicBool::new(false))?;
        ranks.leave()
    });
    if let Err(error) = done {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

/// A job of so many processes, as torchrun starts them, of which one is killed before a step.
fn job(place: &Place, run: &str, size: usize, dies: Option<(usize, u64)>) -> Vec<Output> {
    // torchrun has the port before.
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let start = |rank: usize| {
        let fault = dies.filter(|(who, _)| *who == rank).map(|(_, step)| format!("kill@step:{step}"));
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "nccl::rank"])
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", (free.port() - 1).to_string())
            .env("WORLD_SIZE", size.to_string())
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("FAKE_CUDA_DEVICES", size.to_string())
            .env(PLACE, place.dir.path())
            .env(RUN, run)
            .envs(fault.map(|fault| ("FAIRFACE_FAULT", fault)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..size).map(start).collect();
    processes.into_iter().map(|process| process.wait_with_output().unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn processes_with_a_gpu_each_come_to_the_same_bytes() {
    let place = Place::new(0);
    for size in [2, 4] {
        let run = size.to_string();
        for output in job(&place, &run, size, None) {
            assert!(output.status.success(), "{}", stderr(&output));
        }
        place.assert_same_as_alone(&run);
    }
}

#[test]
fn a_process_that_dies_ends_the_others_with_a_word_of_why_and_costs_nothing() {
    for dies in [0, 1] {
        let place = Place::new(0);
        let ended = job(&place, "run", 2, Some((dies, 4)));
        let other = &ended[1 - dies];
        assert_eq!(other.status.code(), Some(1), "{}", stderr(other));
        let said = format!("rank {dies} has left the others");
        assert!(stderr(other).contains(&said), "{}", stderr(other));
        train(2, &place.config("run"), &Start::Resume("last".to_owned()), u64::MAX)
            .into_iter()
            .for_each(|result| assert!(result.is_ok()));
        place.assert_same_as_alone("run");
    }
}
