//! The folder of several seeds: a run folder a seed, `seed-42` and so on, beside `seeds.json`.
//!
//! The settings are those of the first run that there is, and every other must have the same: nothing else keeps them.
//! How far a seed has come is told by its run's position alone.

use std::path::{Path, PathBuf};

use ff_core::text;
use fs_err as fs;
use serde_json::Value;

use super::list;
use super::record::{FinishedRun, SeedsRecord};
use crate::config::Config;
use crate::learner::Length;
use crate::run::{CheckpointName, Lock, RunDir, next_numbered};
use crate::trainer::{changes, with_absolute_paths};
use crate::{Error, Result};

/// Settings that change no figure, or no more than rounding does: where the data lie and what is computed with.
const FREE: [&str; 10] = [
    "data.splits",
    "data.images",
    "data.workers",
    "data.prefetch",
    "data.cache",
    "data.cache_dir",
    "train.device",
    "train.threads",
    "run.checkpoint_steps",
    "run.keep",
];

/// A folder for runs of several seeds, which nobody else trains in as long as this is held.
#[derive(Debug)]
pub struct SeedsDir {
    path: PathBuf,
    seeds: Vec<u64>,
    /// Whether there was no folder before.
    is_new: bool,
    _lock: Lock,
}

/// How far the run of a seed has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// There is none yet.
    NotBegun,
    /// It was stopped, or killed.
    Stopped,
    /// Nothing is left to train.
    Finished(Box<FinishedRun>),
}

impl SeedsDir {
    /// Whether this is such a folder.
    pub fn is_at(path: &Path) -> bool {
        path.join(SeedsRecord::FILE).exists()
    }

    /// Makes the folder: the one asked for, or the next `runs/seeds-NNN`.
    ///
    /// # Errors
    /// It holds runs already, or anything else; another process trains in it; seeds of which one comes twice, or none.
    pub fn create(asked: Option<&Path>, seeds: &[u64]) -> Result<Self> {
        check(seeds)?;
        let is_new = asked.is_none_or(|path| !path.exists());
        let path = match asked {
            Some(path) => {
                check_free(path)?;
                fs::create_dir_all(path)?;
                path.to_owned()
            }
            None => next_numbered(Path::new("runs"), "seeds")?,
        };
        let lock = Lock::of(&path)?;
        check_free(&path)?; // somebody else may have been faster
        Ok(Self { path, seeds: seeds.to_owned(), is_new, _lock: lock })
    }

    /// Opens the folder, to go on there.
    ///
    /// # Errors
    /// It is none, its record is damaged, or another process trains in it.
    pub fn open(path: &Path) -> Result<Self> {
        SeedsRecord::read_seeds(path)?;
        let lock = Lock::of(path)?;
        let seeds = SeedsRecord::read_seeds(path)?; // the last word of whoever held the folder before
        Ok(Self { path: path.to_owned(), seeds, is_new: false, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The seeds, in the order in which they are trained.
    pub fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// Adds seeds: those that there are have to be among these.
    ///
    /// # Errors
    /// They are not, or one comes twice. A mean from which a seed can be dropped says what one wants to hear.
    pub fn extend(&mut self, seeds: &[u64]) -> Result<()> {
        check(seeds)?;
        let lacking: Vec<String> =
            self.seeds.iter().filter(|seed| !seeds.contains(seed)).map(ToString::to_string).collect();
        if !lacking.is_empty() {
            let message = format!(
                "expected the folder's own seeds among those given, {} missing",
                text::list(&lacking)
            );
            return Err(Error::RunDir { path: self.path.clone(), message });
        }
        let new = seeds.iter().filter(|seed| !self.seeds.contains(seed)).copied();
        self.seeds = self.seeds.iter().copied().chain(new).collect();
        Ok(())
    }

    /// The settings that all runs have in common, but for the seed.
    ///
    /// # Errors
    /// No run has begun yet.
    pub fn settings(&self) -> Result<Config> {
        let (_, run) = self.first().ok_or_else(|| {
            let message = "expected the run of a seed that has begun, found none; begin anew".to_owned();
            Error::RunDir { path: self.path.clone(), message }
        })?;
        run.config()
    }

    /// The folder of a seed's run.
    pub fn run_path(&self, seed: u64) -> PathBuf {
        self.path.join(run_name(seed))
    }

    /// What the first run that has begun started from, as far as that is known.
    pub(super) fn init(&self) -> Option<String> {
        init_of(&self.first()?.1)
    }

    /// Holds the runs that there are against these settings and each other.
    ///
    /// # Errors
    /// [`Error::Config`] names the first setting that differs.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let Some((first, _)) = self.first() else { return Ok(()) };
        let settings = with_absolute_paths(&self.settings()?)?;
        let of_first = format!("{} has", run_name(first));
        same(&settings, &with_absolute_paths(config)?, &["train.seed"], "", &of_first)?;
        let init = self.init();
        for &seed in &self.seeds {
            let Ok(run) = RunDir::open(&self.run_path(seed)) else { continue };
            let own = with_absolute_paths(&run.config()?)?;
            let origin = format!("{}: ", run.path().display());
            if own.train.seed != seed {
                let message = format!("expected {seed}, as the folder is named, found {}", own.train.seed);
                return Err(Error::Config { origin: format!("{origin}train.seed"), message });
            }
            // What the runs start from stands below: `auto` may have become a file.
            same(&settings, &own, &["train.seed", "model.init"], &origin, &of_first)?;
            if let (Some(expected), Some(found)) = (&init, init_of(&run))
                && *expected != found
            {
                let message = format!("expected initial weights {expected}, as {of_first}, found {found}");
                return Err(Error::RunDir { path: run.path().to_owned(), message });
            }
        }
        Ok(())
    }

    /// How far the run of a seed has come, if it takes so long and is trained on the split with this SHA-256.
    ///
    /// # Errors
    /// It was trained on another split; its last evaluation is not recorded.
    pub(super) fn standing(&self, seed: u64, length: &Length, train_split: &str) -> Result<Standing> {
        let Ok(run) = RunDir::open(&self.run_path(seed)) else { return Ok(Standing::NotBegun) };
        // A checkpoint that is damaged is told, with what helps, by whoever goes on from it.
        let last = run.open_checkpoint(CheckpointName::Last).and_then(|last| last.state());
        let Ok(state) = last else { return Ok(Standing::Stopped) };
        let position = state.position;
        if position.step > 0 && state.train_split != train_split {
            let message =
                "expected the training split that this run was trained on, found another".to_owned();
            return Err(Error::RunDir { path: run.path().to_owned(), message });
        }
        if !length.is_over(&position) {
            return Ok(Standing::Stopped);
        }
        let epoch = run.last_epoch()?.filter(|epoch| epoch.step == position.step);
        let epoch = epoch.ok_or_else(|| Error::BadFile {
            path: run.path().join("metrics.jsonl"),
            message: format!("expected the evaluation after step {}, found none", position.step),
        })?;
        Ok(Standing::Finished(Box::new(FinishedRun {
            seed,
            run: run_name(seed),
            steps: position.step,
            epochs: position.epoch,
            stopped_early: length.steps_left(&position) > 0,
            skipped_steps: position.skipped,
            train_loss: epoch.train_loss,
            val: epoch.val,
            ema: epoch.ema,
        })))
    }

    /// Writes down what the finished runs came to, and with it that the folder is one of several seeds.
    pub(super) fn record(&self, mut runs: Vec<FinishedRun>) -> Result<SeedsRecord> {
        runs.sort_by_key(|run| self.seeds.iter().position(|&seed| seed == run.seed));
        let first = self.first().map_or(self.seeds[0], |(seed, _)| seed);
        let record = SeedsRecord::new(&self.seeds, Path::new(&run_name(first)).join("config.toml"), runs);
        record.write(&self.path)?;
        Ok(record)
    }

    /// Removes the folder again, if no run has come so far as to leave anything in it.
    pub(super) fn remove_if_nothing_began(&self) {
        if self.seeds.iter().any(|&seed| self.run_path(seed).exists()) {
            return;
        }
        // What cannot be removed stays: it says that nothing has begun.
        for name in [SeedsRecord::FILE, Lock::FILE] {
            let _ = fs::remove_file(self.path.join(name));
        }
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// The first run that has begun, and its seed.
    fn first(&self) -> Option<(u64, RunDir)> {
        self.seeds.iter().find_map(|&seed| Some((seed, RunDir::open(&self.run_path(seed)).ok()?)))
    }
}

fn check(seeds: &[u64]) -> Result<()> {
    list::check(seeds).map_err(|message| Error::Config { origin: "seeds".to_owned(), message })
}

pub(crate) fn run_name(seed: u64) -> String {
    format!("seed-{seed}")
}

/// What a run started from, as its `run.json` says.
fn init_of(run: &RunDir) -> Option<String> {
    let text = fs::read_to_string(run.path().join("run.json")).ok()?;
    let provenance: Value = serde_json::from_str(&text).ok()?;
    Some(provenance.get("init")?.as_str()?.to_owned())
}

/// # Errors
/// A setting that is not free differs, and is none of `but`.
fn same(expected: &Config, found: &Config, but: &[&str], origin: &str, of: &str) -> Result<()> {
    let differing = changes(expected, found)
        .into_iter()
        .find(|change| !FREE.contains(&&*change.key) && !but.contains(&&*change.key));
    let Some(change) = differing else { return Ok(()) };
    let message = format!("expected {}, as {of}, found {}", change.before, change.after);
    Err(Error::Config { origin: format!("{origin}{}", change.key), message })
}

/// Whether runs of several seeds can begin in this folder: what was killed before its first run had begun leaves no
/// more than may be there.
fn check_free(path: &Path) -> Result<()> {
    let refuse = |message: String| Err(Error::RunDir { path: path.to_owned(), message });
    if !SeedsDir::is_at(path) {
        return RunDir::check_free(path);
    }
    let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<String> = names.collect();
    let runs = || names.iter().filter(|name| name.starts_with("seed-")).map(|name| path.join(name));
    if runs().any(|run| RunDir::open(&run).is_ok()) {
        return refuse(
            "holds runs of several seeds already; resume them, or choose another folder".to_owned(),
        );
    }
    runs().try_for_each(|run| RunDir::check_free(&run))?;
    let is_ours = |name: &String| {
        name.starts_with(['.'])
            || name.starts_with("seed-")
            || [SeedsRecord::FILE, Lock::FILE].contains(&&**name)
    };
    match names.iter().find(|name| !is_ours(name)) {
        Some(name) => refuse(format!("expected an empty folder or none, found {name} in it")),
        None => Ok(()),
    }
}
