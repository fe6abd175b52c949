//! Processes that a launcher has started, of a program that trains alone or is of another MPI than the launcher.

use super::{fresh, place};
use crate::workplace::{assert_exit, stderr};

/// They would all have trained the same, over each other's files.
#[test]
fn a_rank_that_finds_itself_alone_does_not_train() {
    let place = place();
    let args = fresh(&place, "run");
    let output = place.command(&args).env("RANK", "0").env("WORLD_SIZE", "4").output().unwrap();
    assert_exit(&output, 1);
    let said = "error: torchrun says that this is process 0 of 4, and ";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
    assert!(!place.path("run").exists());
    // One of one is alone, whoever says so.
    let args = [&args[..], &["--max-steps", "1"]].concat();
    assert_exit(&place.command(&args).env("RANK", "0").env("WORLD_SIZE", "1").output().unwrap(), 0);
}

#[cfg(all(target_os = "linux", not(any(feature = "mpi", feature = "cuda"))))]
#[test]
fn a_program_without_the_features_has_neither_mpi_nor_nccl_in_it() {
    let ldd = std::process::Command::new("ldd").arg(env!("CARGO_BIN_EXE_fairface")).output().unwrap();
    let libraries = String::from_utf8_lossy(&ldd.stdout).into_owned();
    assert!(libraries.contains("libc.so"), "{libraries}");
    for other in ["mpi", "nccl", "cuda"] {
        assert!(!libraries.contains(other), "{libraries}");
    }
}
