//! `cargo xtask COMMAND`: the product's commands, in the repository.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository");
    ff_cli::run(std::env::args_os(), &ff_cli::Context { program: "cargo xtask", root: root.to_owned() })
}
