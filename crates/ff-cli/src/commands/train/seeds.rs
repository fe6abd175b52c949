//! `train --seeds`: what is said of several runs, beside what each says of itself.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use ff_eval::FigureOverRuns;
use ff_report::{SeedsPage, compared};
use ff_train::seeds::{
    SeedRun, Seeds, SeedsDir, SeedsObserver, SeedsRecord, SeedsResult, Standing, train_seeds,
};
use ff_train::{Config, Error};

use super::{Args, Display, interrupted};
use crate::output::{self, note};
use crate::{Context, Ending};

/// The folder of several seeds to go on in, with the seeds that are asked for now; `None` for a single run.
pub fn open(args: &Args) -> Result<Option<SeedsDir>> {
    let Some(path) = args.run_dir.as_deref().filter(|_| args.resume) else { return Ok(None) };
    if args.seeds.is_none() && !SeedsDir::is_at(path) {
        return Ok(None);
    }
    let mut dir = SeedsDir::open(path)?;
    if args.checkpoint != "last" {
        let message = format!(
            "expected last for several seeds, found {}; for one of them give --run-dir {}",
            args.checkpoint,
            dir.run_path(dir.seeds()[0]).display()
        );
        return Err(Error::Config { origin: "--checkpoint".to_owned(), message }.into());
    }
    if let Some(seeds) = asked(args, dir.seeds()[0])? {
        dir.extend(&seeds)?;
    }
    Ok(Some(dir))
}

/// A new folder, if several seeds are asked for.
pub fn create(args: &Args, config: &Config) -> Result<Option<SeedsDir>> {
    if args.resume || args.seeds.is_none() {
        return Ok(None);
    }
    let seeds = asked(args, config.train.seed)?;
    Ok(seeds.map(|seeds| SeedsDir::create(config.run.dir.as_deref(), &seeds)).transpose()?)
}

/// The seeds that the flags name, if they name any; `first` is where a number begins without `--seed`.
fn asked(args: &Args, first: u64) -> Result<Option<Vec<u64>>> {
    match (&args.seeds, args.seed) {
        (None, None) => Ok(None),
        (None, Some(seed)) => Ok(Some(vec![seed])),
        (Some(Seeds::List(_)), Some(seed)) => {
            let message = format!("expected a number beside --seed {seed}, found a list");
            Err(Error::Config { origin: "--seeds".to_owned(), message }.into())
        }
        (Some(seeds), seed) => Ok(Some(seeds.from_first(seed.unwrap_or(first))?)),
    }
}

pub fn train(
    config: &Config,
    dir: &SeedsDir,
    stop: &AtomicBool,
    mut display: Display,
    context: &Context,
    json: bool,
) -> Result<Ending> {
    let result = train_seeds(config, dir, &mut display, stop)?;
    if json {
        output::print_json(&result)?;
    } else {
        say(&result);
    }
    Ok(if result.interrupted { interrupted(context, &result.run_dir) } else { Ending::Success })
}

fn say(result: &SeedsResult) {
    let SeedsResult { run_dir, figures, ema, .. } = result;
    for (of, figures) in [("val, last epoch", figures), ("val, moving average", ema)] {
        if !figures.is_empty() {
            output::say!("{}", table(of, figures));
        }
    }
    output::say!("run folder {}", run_dir.display());
}

/// A row a figure: shares in percent, the likelihood as it is.
fn table(of: &str, figures: &[FigureOverRuns]) -> String {
    let row = |row: &FigureOverRuns| {
        let show = |value| compared(row.figure, value);
        let name = format!("{} {}", row.task, row.figure.name().replace('_', " "));
        let spread = [row.deviation, row.standard_error].map(|value| value.map_or(String::new(), show));
        let [deviation, error] = spread;
        vec![name, show(row.mean), deviation, error, row.n.to_string()]
    };
    let header = [of, "mean", "deviation", "standard error", "runs"];
    output::table(&header, &figures.iter().map(row).collect::<Vec<_>>())
}

impl SeedsObserver for Display {
    fn seed(&mut self, run: &SeedRun) {
        let SeedRun { seed, place, of, standing } = run;
        let how = match standing {
            Standing::NotBegun => "",
            Standing::Stopped => ", which goes on",
            Standing::Finished(_) => ", which is finished",
        };
        note!("seed    {seed}: run {place} of {of}{how}");
    }

    fn recorded(&mut self, folder: &Path, record: &SeedsRecord) {
        // Runs do not end for a page that nobody may read.
        if let Err(e) = SeedsPage::new(record).write(folder) {
            tracing::warn!("no page of the seeds: {e}");
        }
    }
}
