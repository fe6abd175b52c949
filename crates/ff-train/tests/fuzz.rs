//! The fuzzers of this crate's files, on inputs that are drawn here: see `fuzz/README.md`.

#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/src/train.rs"]
mod train;

#[test]
fn checkpoints_and_configurations_of_any_bytes_are_read_or_refused() {
    mutate::run("checkpoint_state", train::checkpoint_state);
    mutate::run("config", train::config);
}
