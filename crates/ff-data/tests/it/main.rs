//! ff-data's tests: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]
#![expect(clippy::print_stderr, reason = "a test says what it skips")]

mod audit;
mod augment;
mod bad_images;
mod bad_tables;
mod cache;
mod damage;
mod decisions;
mod decode;
mod duplicates;
mod fairface;
mod files;
mod fused;
mod fuzz;
mod hash_file;
mod image_size;
mod inputs;
mod labels;
mod loader;
mod manifest;
mod recipes;
mod sample;
mod split;
mod support;
