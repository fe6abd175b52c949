//! `report`: a run as a page to look at.

use std::path::PathBuf;

use anyhow::Result;
use ff_report::{RunReport, SeedsPage};
use ff_train::run::RunDir;
use ff_train::seeds::{SeedsDir, SeedsRecord};

use crate::{Ending, output};

/// Make a run's report.html anew: curves, confusion matrices, times, configuration, and the evaluations so far.
///
/// The page is one file that needs no network: it can be mailed. Training makes it too; make it again after `evaluate`,
/// or while a run goes on. The data behind it stand beside it in report.json. Of a folder of several seeds it is
/// seeds.html, beside seeds.json.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    report --run runs/train-001\n  \
    report --run runs/train-001 --json                 prints {\"path\": ..., \"data\": ...}")]
pub struct Args {
    /// The run folder, or one of several seeds.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let (written, findings) = if SeedsDir::is_at(&args.run) {
        (SeedsPage::new(&SeedsRecord::read(&args.run)?).write(&args.run)?, Vec::new())
    } else {
        let report = RunReport::read(&RunDir::open(&args.run)?)?;
        (report.write()?, report.findings)
    };
    if json {
        output::print_json(&written)?;
    } else {
        for finding in &findings {
            output::note!("{finding}");
        }
        output::say!("{}", written.path.display());
    }
    Ok(Ending::Success)
}
