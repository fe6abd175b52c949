//! `seeds.json`: which seeds a folder is for, and what those that are finished came to.

use std::path::{Path, PathBuf};

use ff_core::PerTask;
use ff_core::files::write_atomic;
use ff_eval::{FigureOverRuns, TaskMetrics, over_runs};
use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::list;
use crate::records::{Seconds, TrainingResult};
use crate::run::OF_SEVERAL_SEEDS;
use crate::{Error, Result};

/// Runs that differ in their seed alone, and their figures together.
///
/// Only `seeds` is ever read back to train: what is finished is told by the runs themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedsRecord {
    /// The seeds, in the order in which they are trained.
    pub seeds: Vec<u64>,
    /// Where the settings stand that all runs have in common: in the configuration of the first, below the folder.
    pub settings: PathBuf,
    /// The finished runs, in the order of the seeds.
    pub runs: Vec<FinishedRun>,
    /// Validation figures over those runs, each at its last epoch.
    pub figures: Vec<FigureOverRuns>,
    /// The same of the weights' moving averages, where the runs keep one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ema: Vec<FigureOverRuns>,
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// Its seed.
    pub seed: u64,
    /// Its folder's name.
    pub run: String,
    /// Steps taken.
    pub steps: u64,
    /// Epochs completed.
    pub epochs: u64,
    /// Whether `[train] patience` ended it.
    pub stopped_early: bool,
    /// Steps that changed nothing.
    pub skipped_steps: u64,
    /// Mean loss of the last epoch's images.
    pub train_loss: Option<f64>,
    /// The last evaluation.
    pub val: PerTask<TaskMetrics>,
    /// The last evaluation of the moving average, where the run keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<PerTask<TaskMetrics>>,
}

impl SeedsRecord {
    /// The file's name in the folder.
    pub const FILE: &'static str = OF_SEVERAL_SEEDS;

    /// Of these runs.
    pub(super) fn new(seeds: &[u64], settings: PathBuf, runs: Vec<FinishedRun>) -> Self {
        let val: Vec<_> = runs.iter().map(|run| &run.val).collect();
        let ema: Vec<_> = runs.iter().filter_map(|run| run.ema.as_ref()).collect();
        let (figures, ema) = (over_runs(&val), over_runs(&ema));
        Self { seeds: seeds.to_owned(), settings, runs, figures, ema }
    }

    /// Reads the record of a folder.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let record: Self = read(folder)?;
        check(&record.seeds, folder)?;
        Ok(record)
    }

    /// Reads the seeds alone, whatever else another version wrote.
    pub(super) fn read_seeds(folder: &Path) -> Result<Vec<u64>> {
        #[derive(Deserialize)]
        struct OfSeeds {
            seeds: Vec<u64>,
        }
        let OfSeeds { seeds } = read(folder)?;
        check(&seeds, folder)?;
        Ok(seeds)
    }

    /// Writes it into its folder.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a record is JSON");
        Ok(write_atomic(&folder.join(Self::FILE), format!("{text}\n").as_bytes())?)
    }
}

fn read<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    let path = folder.join(SeedsRecord::FILE);
    if !path.is_file() {
        let found = if folder.join("config.toml").is_file() { "a run of one seed" } else { "none" };
        let message = format!("expected runs of several seeds with {}, found {found}", SeedsRecord::FILE);
        return Err(Error::RunDir { path: folder.to_owned(), message });
    }
    let text = fs::read_to_string(&path)?;
    serde_json::from_str(&text).map_err(|e| Error::BadFile { path, message: e.to_string() })
}

fn check(seeds: &[u64], folder: &Path) -> Result<()> {
    let bad = |message| Error::BadFile { path: folder.join(SeedsRecord::FILE), message };
    list::check(seeds).map_err(bad)
}

impl FinishedRun {
    /// As training tells it of a run in which nothing was left to train.
    pub(super) fn result(&self, run_dir: PathBuf) -> TrainingResult {
        TrainingResult {
            run_dir,
            steps: self.steps,
            epochs: self.epochs,
            images_per_s: 0.0,
            train_loss: self.train_loss,
            val: Some(self.val.clone()),
            ema: self.ema.clone(),
            skipped_steps: self.skipped_steps,
            stopped_early: self.stopped_early,
            init: "resumed".to_owned(),
            seconds: Seconds::default(),
            interrupted: false,
        }
    }
}
