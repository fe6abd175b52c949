//! The command line: one file a command; flags become configuration, results become text or one JSON object.
//!
//! Human words go to stderr, results to stdout. Exit codes: 0 success, 1 failure, 2 a flag or configuration that cannot
//! be used, 3 a requirement that is not met, 75 a rank that did not answer in time, 101 a bug, 130 after Ctrl-C with
//! the checkpoint written. Nothing here is logic that a library user would miss.

mod annotate;
mod commands;
mod faces;
mod flags;
mod gates;
mod inference;
mod job;
mod model;
mod output;
mod output_file;
mod ranges;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
#[cfg(feature = "serve")]
use commands::serve;
use commands::{
    audit, bench, compare, completions, crop, data, embed, equalize, evaluate, export, predict, report,
    sanity, soup, split, summary, sweep, train, weights,
};
use ff_train::ranks::launcher;
use output::Verbosity;

/// How the commands were reached.
#[derive(Debug, Clone)]
pub struct Context {
    /// What the user typed before the command.
    pub program: &'static str,
    /// The folder that holds `data/sample`: the repository, or the current folder.
    pub root: PathBuf,
}

/// How a command ended, if not with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As hoped.
    Success,
    /// It did its work and the answer is no.
    Failure,
    /// It did its work, and what it found is not what was required.
    NotMet,
    /// Ctrl-C, everything saved.
    Interrupted,
}

/// Trains and audits face-attribute models: one ResNet backbone, a head a task: age, gender and race, or your own.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed or the answer is no, 2 a flag or setting that cannot be used, 3 a requirement \
    is not met, 75 a rank that did not answer in time, 101 a bug, 130 stopped by Ctrl-C with everything saved."
)]
struct Cli {
    /// Print the result as one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Data(data::Args),
    Crop(crop::Args),
    Split(split::Args),
    Audit(audit::Args),
    Train(train::Args),
    Sweep(sweep::Args),
    Soup(soup::Args),
    Evaluate(evaluate::Args),
    Compare(compare::Args),
    Equalize(equalize::Args),
    Report(report::Args),
    Predict(predict::Args),
    Embed(embed::Args),
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    Weights(weights::Args),
    Export(export::Args),
    Sanity(sanity::Args),
    Summary(summary::Args),
    Bench(bench::Args),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Runs the command that `args` asks for; the first of `args` is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>, context: &Context) -> ExitCode {
    output::init_panics();
    let rank = launcher::place().ok().flatten().map_or(0, |place| place.rank);
    let parsed = Cli::command().bin_name(context.program).try_get_matches_from(args);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(e) => {
            output::init_rank(rank);
            if rank > 0 && e.use_stderr() {
                // Most likely the first rank says the same.
                std::thread::sleep(WHILE_THE_FIRST_IS_ENDED);
            }
            output::print_usage(&e);
            return ended(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    // Nothing else is shared: other commands work as they do anywhere, whoever starts them.
    if let Command::Train(_) | Command::Bench(_) = cli.command {
        output::init_rank(rank);
    }
    output::init_logging(if cli.quiet || output::rank() > 0 { Verbosity::Quiet } else { Verbosity::Normal });
    let json = cli.json;
    let result = match cli.command {
        Command::Train(args) => train::run(&args, context, json),
        Command::Soup(args) => soup::run(&args, json),
        Command::Sweep(args) => sweep::run(&args, context, json),
        Command::Evaluate(args) => evaluate::run(&args, context, json),
        Command::Compare(args) => compare::run(&args, json),
        Command::Equalize(args) => equalize::run(&args, json),
        Command::Report(args) => report::run(&args, json),
        Command::Data(args) => data::run(&args, json),
        Command::Crop(args) => crop::run(&args, context, json),
        Command::Split(args) => split::run(&args, json),
        Command::Audit(args) => audit::run(&args, context, json),
        Command::Predict(args) => predict::run(&args, context, json),
        Command::Embed(args) => embed::run(&args, context, json),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args, context, json),
        Command::Weights(args) => weights::run(&args, context, json),
        Command::Export(args) => export::run(&args, json),
        Command::Sanity(args) => sanity::run(&args, context, json),
        Command::Summary(args) => summary::run(&args, json),
        Command::Bench(args) => bench::run(&args, context, json),
        Command::Completions(args) => completions::completions(&args, Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
    };
    ended(match result {
        Ok(Ending::Success) => 0,
        Ok(Ending::Failure) => 1,
        Ok(Ending::NotMet) => 3,
        Ok(Ending::Interrupted) => 130,
        Err(e) => {
            if output::rank() > 0 {
                // Most likely the first rank says the same, and the launcher then ends this one.
                std::thread::sleep(if is_everywhere(&e) {
                    WHILE_THE_FIRST_SAVES
                } else {
                    WHILE_THE_FIRST_SPEAKS
                });
            }
            output::alert!("error: {}", message(&e));
            if is_usage(&e) { 2 } else { 1 }
        }
    })
}

/// Whether it is a configuration that cannot be used, or a flag that names what there is not.
fn is_usage(error: &anyhow::Error) -> bool {
    #[cfg(feature = "serve")]
    if let Some(ff_serve::Error::OpenToAll { .. } | ff_serve::Error::BadTasks { .. }) = error.downcast_ref() {
        return true;
    }
    let of_training = match error.downcast_ref() {
        Some(ff_report::Error::Train(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    let of_data = match of_training {
        Some(ff_train::Error::Config { .. }) => return true,
        Some(ff_train::Error::Data(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    let of_evaluation = match of_training {
        Some(ff_train::Error::Eval(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    matches!(of_data, Some(ff_data::Error::Config(_)))
        || matches!(
            of_evaluation,
            Some(
                ff_eval::Error::BadRequirement { .. }
                    | ff_eval::Error::NoSuchColumn { .. }
                    | ff_eval::Error::NoThresholds(_)
            )
        )
}

/// Whether every rank of a run has met it.
fn is_everywhere(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(ff_train::Error::is_everywhere)
}

/// How long a rank waits for the first one to say what both have met, where a checkpoint may be written before.
const WHILE_THE_FIRST_SAVES: Duration = Duration::from_secs(60);
/// The same, where nothing is.
const WHILE_THE_FIRST_SPEAKS: Duration = Duration::from_secs(2);
/// The same, before the ranks know each other: mpirun took up to 4.5 s to end a rank on another machine.
const WHILE_THE_FIRST_IS_ENDED: Duration = Duration::from_secs(6);

/// The exit code, when all that can be printed is printed: results that did not arrive are a failure.
fn ended(code: u8) -> ExitCode {
    match output::finish() {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            output::alert!("error: cannot write to stdout: {error}");
            ExitCode::from(if code == 0 { 1 } else { code })
        }
    }
}

/// An error and its causes, as far as they say anything new: most messages have their cause in them.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_that_the_message_has_in_it_is_not_said_twice() {
        let error = fs_err::read("nowhere").map_err(ff_data::Error::from).unwrap_err();
        let said = message(&error.into());
        assert_eq!(said.matches("nowhere").count(), 1, "{said}");
        assert_eq!(said.matches("os error").count(), 1, "{said}");
        let error = std::io::Error::other("the cause");
        assert_eq!(
            message(&Err::<(), _>(error).context("what failed").unwrap_err()),
            "what failed: the cause"
        );
    }
}
