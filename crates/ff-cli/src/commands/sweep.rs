//! `sweep`: alternatives and seeds, a run each, and a table of what they come to.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ff_eval::Figure;
use ff_report::{SweepPage, compared, difference_cells};
use ff_train::sweep::{Alternative, Row, SweepFile, SweepObserver, SweepRecord, sweep};

use super::train::{Display, stop_on_ctrl_c};
use crate::flags::{ComputeFlags, recorded_path, settle};
use crate::output::{self, alert, note};
use crate::{Context, Ending};

/// Train alternatives with several seeds each, and compare them with a baseline.
///
/// FILE names seeds, settings that all runs share, and alternatives.
///
/// Runs come one after the other. The same command goes on after Ctrl-C, a crash or a kill, and
/// passes over what is finished; alternatives and seeds may be added to FILE meanwhile.
///
/// OUT gets a folder an alternative, with a run a seed as `train --seeds` makes them, sweep.html,
/// sweep.json and results.csv, a row a run with its figures and settings for pandas, Optuna or Ax.
/// Differences are paired by seed, with one interval over seeds and one over validation faces.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    about = "Train alternatives with several seeds each, and compare them with a baseline",
    after_help = "A FILE:\n\n  \
    seeds = 3                      # from train.seed on, or a list: [1, 7, 9]\n  \
    baseline = \"plain\"             # [default: the first]\n  \
    preset = \"sample\"              # or \"fairface\"\n  \
    models = false                 # delete the weights of finished runs [default: true]\n  \
    [settings.train]               # sections and keys as in a configuration\n  \
    epochs = 2\n  \
    [[alternatives]]\n  \
    name = \"plain\"\n  \
    [[alternatives]]\n  \
    name = \"averaged\"\n  \
    settings.optimizer.ema_decay = 0.99\n  \
    [[alternatives]]\n  \
    name = \"averaged-smoothed\"\n  \
    on = \"averaged\"                # its settings first\n  \
    settings.loss.label_smoothing = 0.1\n\n\
    Examples:\n  \
    sweep docs/recipes/sample.toml --out runs/recipes\n  \
    sweep mine.toml --out runs/mine --precision auto --json"
)]
pub struct Args {
    /// The alternatives.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder of the sweep; one that was begun goes on.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    out: PathBuf,
    #[command(flatten)]
    compute: ComputeFlags,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let settled = |builder| settle(args.compute.over(builder));
    let file = SweepFile::read(&args.file, &context.root, settled)?;
    let (alternatives, seeds) = (file.alternatives.len(), file.seeds.len());
    note!("sweep   {alternatives} alternatives, {seeds} seeds: {} runs", alternatives * seeds);
    let stop = stop_on_ctrl_c()?;
    let result = sweep(&file, &args.out, &mut Display::default(), &stop)?;
    if json {
        output::print_json(&result)?;
    } else {
        output::say!("{}", table(&result.record));
        output::say!("folder {}", result.folder.display());
    }
    if result.interrupted {
        let (file, out) = (args.file.display(), args.out.display());
        alert!("stopped; go on with: {} sweep {file} --out {out}", context.program);
        return Ok(Ending::Interrupted);
    }
    Ok(Ending::Success)
}

/// A row an alternative and task, those of the mean over the tasks first.
fn table(record: &SweepRecord) -> String {
    let row = |row: &Row| {
        let show = |value| compared(Figure::Accuracy, value);
        let task = row.task.as_ref().map_or("mean".to_owned(), ToString::to_string);
        let [difference, of_seeds, of_faces] = difference_cells(row.difference.as_ref());
        let deviation = row.deviation.map_or(String::new(), show);
        let n = row.n.to_string();
        vec![row.alternative.clone(), task, show(row.mean), deviation, n, difference, of_seeds, of_faces]
    };
    let header =
        ["accuracy, last epoch", "of", "mean", "deviation", "runs", "difference", "over seeds", "over faces"];
    output::table(&header, &record.table.iter().map(row).collect::<Vec<_>>())
}

impl SweepObserver for Display {
    fn alternative(&mut self, alternative: &Alternative, place: usize, of: usize) {
        note!("sweep   {}: alternative {place} of {of}", alternative.name);
        alternative.changes.iter().for_each(|change| note!("        {change}"));
    }

    fn swept(&mut self, folder: &Path, record: &SweepRecord) {
        // Runs do not end for a page that nobody may read.
        if let Err(e) = SweepPage::new(record).write(folder) {
            tracing::warn!("no page of the sweep: {e}");
        }
    }
}
