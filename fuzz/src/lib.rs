//! Everything that reads files from strangers, as functions of bytes: no panic, no hang, no memory beyond the limits,
//! and an error with a cause.
//!
//! libFuzzer calls them from `fuzz_targets/`, and the tests of the crates include the same files: see
//! `crates/*/tests/*/fuzz.rs`.

pub mod data;
pub mod eval;
pub mod model;
pub mod train;
