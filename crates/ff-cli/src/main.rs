//! The binary `fairface`: the same commands as `cargo xtask`, without the repository.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    ff_cli::run(std::env::args_os(), &ff_cli::Context { program: "fairface", root: PathBuf::new() })
}
