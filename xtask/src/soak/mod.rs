//! `cargo xtask soak train|serve`: whether something that runs for long stays as it is. Linux only. Exit code 1 when
//! something grows or slows down.

mod process;
mod serve;
mod train;

use std::process::ExitCode;

const USAGE: &str =
    "usage: cargo xtask soak train [--minutes N]\n       cargo xtask soak serve [--requests N]";

/// Runs it.
pub fn run(args: &[String]) -> ExitCode {
    let flat = match args.split_first() {
        Some((stage, rest)) if stage == "train" => train::run(rest),
        Some((stage, rest)) if stage == "serve" => serve::run(rest),
        _ => None,
    };
    match flat {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::from(1),
        Some(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
        None => {
            eprintln!(
                "error: expected a stage, and from 0.1 to 10000 minutes or 100 to 10000000 requests\n{USAGE}"
            );
            ExitCode::from(2)
        }
    }
}
