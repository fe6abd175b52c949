//! `report`: a run as a page to look at.

use std::path::PathBuf;

use anyhow::Result;
use ff_report::{MODEL_CARD, ModelCard, RunReport, SeedsPage, Written};
use ff_train::run::RunDir;
use ff_train::seeds::{SeedsDir, SeedsRecord};
use serde::Serialize;

use crate::{Ending, output};

/// Make a run's report.html anew: curves, confusion matrices, times, configuration, and the evaluations so far.
///
/// The page is one file that needs no network: it can be mailed. Training and evaluating make it too; make it again
/// while a run goes on. The data behind it stand beside it in report.json. MODEL_CARD.md, for those to whom the model
/// is given, is made anew as well, unless its second line, which says so, is gone: then it is yours. Of a folder of
/// several seeds the page is seeds.html, beside seeds.json.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    report --run runs/train-001\n  \
    report --run runs/train-001 --json                 prints {\"path\": ..., \"data\": ..., \"card\": ...}")]
pub struct Args {
    /// The run folder, or one of several seeds.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    if SeedsDir::is_at(&args.run) {
        let written = SeedsPage::new(&SeedsRecord::read(&args.run)?).write(&args.run)?;
        if json {
            output::print_json(&written)?;
        } else {
            output::say!("{}", written.path.display());
        }
        return Ok(Ending::Success);
    }
    let renewed = renew(&RunDir::open(&args.run)?)?;
    renewed.tell_card();
    if json {
        output::print_json(&renewed)?;
    } else {
        for finding in &renewed.report.findings {
            output::note!("{finding}");
        }
        output::say!("{}", renewed.written.path.display());
    }
    Ok(Ending::Success)
}

/// What tells of a run, made anew.
#[derive(Serialize)]
pub struct Renewed {
    #[serde(skip)]
    pub report: RunReport,
    #[serde(flatten)]
    pub written: Written,
    /// `None` where somebody made the card their own.
    pub card: Option<PathBuf>,
}

/// Makes a run's page, its data and its model card anew.
pub fn renew(run: &RunDir) -> Result<Renewed> {
    let report = RunReport::read(run)?;
    let (written, card) = (report.write()?, ModelCard::of_run(&report).write_in_run()?);
    Ok(Renewed { report, written, card })
}

impl Renewed {
    /// Says where the model card is, or whose.
    pub fn tell_card(&self) {
        match &self.card {
            Some(path) => output::note!("model card {}", path.display()),
            None => output::note!("{MODEL_CARD} does not say that fairface made it: it stays as it is"),
        }
    }
}
