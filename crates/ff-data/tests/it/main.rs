//! ff-data's tests: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod audit;
mod augment;
mod bad_tables;
mod cache;
mod decode;
mod duplicates;
mod fused;
mod hash_file;
mod inputs;
mod labels;
mod loader;
mod manifest;
mod sample;
mod split;
mod support;
