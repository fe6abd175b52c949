//! The commands inside a program of one's own: `cargo run --release --package ff-cli --example embedded -- summary
//! --depth 1`

use std::path::PathBuf;
use std::process::ExitCode;

use ff_cli::{Context, run};

fn main() -> ExitCode {
    let context = Context { program: "embedded", root: PathBuf::from(".") };
    run(std::env::args_os(), &context)
}
