//! Several seeds: runs that differ in their seed alone, one after the other in one folder, and what they come to
//! together.
//!
//! Each is a run as [`train`] makes it alone, to the same bytes. A folder that was stopped or killed goes on where it
//! was: what is finished is passed over, what was stopped is resumed, the rest begins. What all runs start from is
//! found once: `auto` is for later seeds what it was for the first.

mod folder;
mod list;
mod record;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ff_core::files::sha256;
use ff_data::LoaderConfig;
use ff_eval::FigureOverRuns;
use serde::Serialize;

pub(crate) use folder::run_name;
pub use folder::{SeedsDir, Standing};
pub use list::Seeds;
pub(crate) use list::check as check_seeds;
pub use record::{FinishedRun, SeedsRecord};

use crate::Result;
use crate::config::Config;
use crate::learner::Length;
use crate::records::TrainingResult;
use crate::run::RunDir;
use crate::trainer::{Observer, Start, train};
use crate::weights::bundled;

/// Hears what the runs do, and how far they have come together.
pub trait SeedsObserver: Observer {
    /// The run of a seed comes next; one that is finished is passed over.
    fn seed(&mut self, _run: &SeedRun) {}
    /// What the finished runs came to was written down.
    fn recorded(&mut self, _folder: &Path, _record: &SeedsRecord) {}
}

/// An observer that looks away.
impl SeedsObserver for () {}

/// The run that comes next.
#[derive(Debug)]
pub struct SeedRun<'a> {
    /// Its seed.
    pub seed: u64,
    /// Which it is, from 1.
    pub place: usize,
    /// How many there are.
    pub of: usize,
    /// How far it has come.
    pub standing: &'a Standing,
}

/// How several seeds ended.
#[derive(Debug, Clone, Serialize)]
pub struct SeedsResult {
    /// Their folder.
    pub run_dir: PathBuf,
    /// The seeds, in the order in which they are trained.
    pub seeds: Vec<u64>,
    /// How each run ended, as far as there are any: the last of them was interrupted, if any was.
    pub runs: Vec<TrainingResult>,
    /// Validation figures over the finished runs, each at its last epoch.
    pub figures: Vec<FigureOverRuns>,
    /// The same of the weights' moving averages, where the runs keep one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ema: Vec<FigureOverRuns>,
    /// Whether the runs were asked to stop.
    pub interrupted: bool,
}

/// Trains a run a seed as `config` says, but for seed and folder, until all are done or until `stop` is set.
///
/// # Errors
/// Settings that are not those of the runs that the folder holds; as [`train`]. What is finished stays, and is recorded.
pub fn train_seeds(
    config: &Config,
    dir: &SeedsDir,
    observer: &mut dyn SeedsObserver,
    stop: &AtomicBool,
) -> Result<SeedsResult> {
    let result = train_all(config, dir, observer, stop);
    if result.is_err() {
        dir.remove_if_nothing_began();
    }
    result
}

fn train_all(
    config: &Config,
    dir: &SeedsDir,
    observer: &mut dyn SeedsObserver,
    stop: &AtomicBool,
) -> Result<SeedsResult> {
    dir.check(config)?;
    let rows = config.read_splits()?.train;
    let length = Length::of(config, LoaderConfig::train(config.data.batch_size).n_batches(rows.len()));
    let train_split = sha256(&rows.to_csv());
    let standing = |seed: u64| dir.standing(seed, &length, &train_split);
    let standings = dir.seeds().iter().map(|&seed| standing(seed)).collect::<Result<Vec<_>>>()?;
    let finished = standings.iter().filter_map(Standing::finished);
    let mut record = dir.record(finished.cloned().collect())?;
    if !record.runs.is_empty() {
        observer.recorded(dir.path(), &record);
    }
    let (mut runs, mut interrupted) = (Vec::new(), false);
    for (i, (&seed, before)) in dir.seeds().iter().zip(&standings).enumerate() {
        if stop.load(Ordering::Relaxed) {
            interrupted = true;
            break;
        }
        observer.seed(&SeedRun { seed, place: i + 1, of: standings.len(), standing: before });
        if let Some(run) = before.finished() {
            runs.push(run.result(dir.run_path(seed)));
            continue;
        }
        let config = of_seed(config, dir, seed)?;
        let start = match before {
            Standing::NotBegun => Start::Fresh,
            _ => Start::Resume("last".to_owned()),
        };
        let result = train(&config, start, observer, stop)?;
        interrupted = result.interrupted;
        runs.push(result);
        if interrupted {
            break;
        }
        match standing(seed)?.finished() {
            Some(run) => record.runs.push(run.clone()),
            None => tracing::warn!("seed {seed} has no figures: its last evaluation gave no numbers"),
        }
        record = dir.record(record.runs)?;
        observer.recorded(dir.path(), &record);
    }
    Ok(SeedsResult {
        run_dir: dir.path().to_owned(),
        seeds: record.seeds,
        runs,
        figures: record.figures,
        ema: record.ema,
        interrupted,
    })
}

/// The configuration of a seed's run.
fn of_seed(config: &Config, dir: &SeedsDir, seed: u64) -> Result<Config> {
    let mut config = config.clone();
    config.train.seed = seed;
    config.run.dir = Some(dir.run_path(seed));
    let own = RunDir::open(&dir.run_path(seed)).ok();
    match (own, dir.init()) {
        (Some(own), _) => config.model.init = own.config()?.model.init,
        (None, Some(init)) if init == bundled::NAME => config.model.init = "bundled".to_owned(),
        (None, Some(init)) if init == "random" || Path::new(&init).is_file() => config.model.init = init,
        _ => {}
    }
    Ok(config)
}

impl Standing {
    /// What a finished run came to.
    pub fn finished(&self) -> Option<&FinishedRun> {
        match self {
            Self::Finished(run) => Some(run),
            Self::NotBegun | Self::Stopped => None,
        }
    }
}
