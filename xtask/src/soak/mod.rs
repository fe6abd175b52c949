//! `cargo xtask soak train|ranks|serve`: what only shows in the long run. Linux only. Exit code 1 where something does not
//! hold, grows or slows down.

mod process;
mod ranks;
mod serve;
mod train;

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;

const USAGE: &str = "usage: cargo xtask soak train [--minutes N]
       cargo xtask soak ranks [--kills N]
       cargo xtask soak serve [--requests N]";

/// Runs it.
pub fn run(args: &[String]) -> ExitCode {
    let held = match args {
        [stage, rest @ ..] if stage == "train" => number(rest, "--minutes", 60.0, 0.1..=1e4).map(train::soak),
        [stage, rest @ ..] if stage == "ranks" => number(rest, "--kills", 20, 1..=10_000).map(ranks::soak),
        [stage, rest @ ..] if stage == "serve" => {
            number(rest, "--requests", 50_000, 100..=10_000_000).map(serve::soak)
        }
        _ => None,
    };
    match held {
        None => {
            eprintln!(
                "error: expected a stage, and from 0.1 to 10000 minutes, 1 to 10000 kills or 100 to 10000000 requests\n{USAGE}"
            );
            ExitCode::from(2)
        }
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::from(1),
        Some(Err(e)) => {
            eprintln!("error: {e}");
            ExitCode::from(1)
        }
    }
}

/// The number after this flag, or what it is without one.
fn number<T: FromStr + PartialOrd>(
    args: &[String],
    flag: &str,
    otherwise: T,
    range: RangeInclusive<T>,
) -> Option<T> {
    match args {
        [] => Some(otherwise),
        [found, number] if found == flag => number.parse().ok().filter(|number| range.contains(number)),
        _ => None,
    }
}
