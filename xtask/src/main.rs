//! `cargo xtask COMMAND`: the product's commands, in the repository, and those that only the repository needs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the repository's own chores; the product's commands print by ff-cli"
)]

mod sanitize;
mod soak;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository");
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match args.split_first() {
        Some((command, rest)) if command == "sanitize" => sanitize::run(root, rest),
        Some((command, rest)) if command == "soak" => soak::run(rest),
        _ => {
            let context = ff_cli::Context { program: "cargo xtask", root: root.to_owned() };
            ff_cli::run(std::env::args_os(), &context)
        }
    }
}
