//! The command line: one file a command; flags become configuration, results become text or one JSON object.
//!
//! Human words go to stderr, results to stdout. Exit codes: 0 success, 1 failure, 2 a flag or configuration that
//! cannot be used, 130 after Ctrl-C with the checkpoint written. Nothing here is logic that a library user would miss.

mod commands;
mod flags;
mod inference;
mod output;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use commands::{
    audit, bench, completions, embed, evaluate, export, predict, report, sanity, split, summary, train,
    weights,
};
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
    /// Ctrl-C, everything saved.
    Interrupted,
}

/// Trains and audits face-attribute models: one ResNet-34 backbone, heads for age, gender and race.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 110)]
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
    Split(split::Args),
    Audit(audit::Args),
    Train(train::Args),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Embed(embed::Args),
    Weights(weights::Args),
    Export(export::Args),
    Report(report::Args),
    Sanity(sanity::Args),
    Summary(summary::Args),
    Bench(bench::Args),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Runs the command that `args` asks for; the first of `args` is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>, context: &Context) -> ExitCode {
    let parsed = Cli::command().bin_name(context.program).try_get_matches_from(args);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(e) => {
            // Nothing is left to do if the terminal is gone.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    output::init_logging(if cli.quiet { Verbosity::Quiet } else { Verbosity::Normal });
    let json = cli.json;
    let ended = match cli.command {
        Command::Train(args) => train::run(&args, context, json),
        Command::Evaluate(args) => evaluate::run(&args, context, json),
        Command::Predict(args) => predict::run(&args, context, json),
        Command::Embed(args) => embed::run(&args, context, json),
        Command::Weights(args) => weights::run(&args, json),
        Command::Export(args) => export::run(&args, json),
        Command::Report(args) => report::run(&args, json),
        Command::Split(args) => split::run(&args, json),
        Command::Audit(args) => audit::run(&args, context, json),
        Command::Sanity(args) => sanity::run(&args, context, json),
        Command::Summary(args) => summary::run(&args, json),
        Command::Bench(args) => bench::run(&args, context, json),
        Command::Completions(args) => completions::completions(&args, Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
    };
    match ended {
        Ok(Ending::Success) => ExitCode::SUCCESS,
        Ok(Ending::Failure) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(e) => {
            eprintln!("error: {e:#}");
            let usage = matches!(e.downcast_ref(), Some(ff_train::Error::Config { .. }));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}
