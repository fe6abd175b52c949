//! `soup`: several runs' weights averaged into one model.

use std::path::PathBuf;

use anyhow::Result;
use ff_train::ConfigBuilder;
use ff_train::soup::{Ingredient, Recipe, soup};
use serde_json::json;

use crate::Ending;
use crate::flags::{ComputeFlags, recorded_path, settle};
use crate::output::{self, fixed, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};

/// Average the weights of several runs into one model file.
///
/// The runs must have begun at the same weights (--init) and have the same backbone, tasks and labels; seeds and
/// settings may differ. Of each the best checkpoint is taken. BatchNorm's statistics are not averaged but found anew,
/// on up to 100 batches of the first run's training images.
///
/// Every run and the soup are scored on the first run's validation split by its train.criterion: the mean accuracy
/// over the tasks, if nothing else was asked for. --greedy takes the best run, and then, from the best on, each with
/// which the soup is no worse; that is chosen by the same faces, so judge it on others: `evaluate --weights FILE --csv
/// ...`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    soup runs/seeds-001/seed-42 runs/seeds-001/seed-43 --out soup.safetensors\n  \
    soup runs/seeds-001/seed-* --greedy --out soup.safetensors")]
pub struct Args {
    /// Run folders.
    #[arg(value_name = "RUN", required = true, num_args = 2.., value_parser = recorded_path())]
    runs: Vec<PathBuf>,
    /// The model file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Take a run only if the soup is no worse with it.
    #[arg(long)]
    greedy: bool,
    #[command(flatten)]
    force: ForceFlag,
    #[command(flatten)]
    compute: ComputeFlags,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let out = OutputFile::claim(&args.out, Kind::Model, args.force)?;
    let recipe = if args.greedy { Recipe::Greedy } else { Recipe::Uniform };
    let settled = |config| settle(args.compute.over(ConfigBuilder::from_config(&config)));
    let soup = soup(&args.runs, recipe, settled, |what, score| note!("{what}: {}", fixed(score, 4)))?;
    out.write(&soup.file)?;
    if json {
        output::print_json(&json!({ "path": out.path(), "soup": soup }))?;
        return Ok(Ending::Success);
    }
    let row = |Ingredient { run, score, taken }: &Ingredient| {
        vec![run.display().to_string(), fixed(*score, 4), if *taken { "taken" } else { "" }.to_owned()]
    };
    let mut rows: Vec<_> = soup.ingredients.iter().map(row).collect();
    rows.push(vec!["soup".to_owned(), fixed(soup.score, 4), String::new()]);
    output::say!("{}", output::table(&["validation, by train.criterion", "score", ""], &rows));
    output::say!("{}", out.path().display());
    Ok(Ending::Success)
}
