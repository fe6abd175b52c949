//! Going on under a changed configuration: what differs, and what would be unsound.

use std::path::{Path, PathBuf};

use ff_core::Encoders;
use toml::{Table, Value};

use crate::config::Config;
use crate::learner::Length;
use crate::position::Position;
use crate::ranks::ReduceDtype;
use crate::run::checkpoint::{Checkpoint, State};
use crate::run::{Lock, RunDir};
use crate::weights::init_is_file;
use crate::{Error, Result};

/// A run that goes on: its folder, which nobody else trains in, and the checkpoint that it goes on from.
pub struct Resumed {
    pub run_dir: RunDir,
    pub lock: Lock,
    pub checkpoint: Checkpoint,
    pub state: State,
    pub changes: Vec<Change>,
}

impl Resumed {
    /// Opens the run in `[run] dir`.
    ///
    /// # Errors
    /// There is none, it is in use, its checkpoint is not whole, or the configuration must not change so.
    pub fn open(config: &Config, checkpoint: &str) -> Result<Self> {
        let no_dir =
            || Error::Config { origin: "run.dir".into(), message: "expected the folder to resume".into() };
        let run_dir = RunDir::open(config.run.dir.as_deref().ok_or_else(no_dir)?)?;
        let lock = run_dir.lock()?;
        let before = run_dir.config()?;
        let checkpoint = run_dir.checkpoint_to_resume(checkpoint)?;
        let state = checkpoint.state()?;
        let changes = changes(&with_absolute_paths(&before)?, config);
        check(&changes, &state.position)?;
        Ok(Self { run_dir, lock, checkpoint, state, changes })
    }

    /// Whether so many ranks may go on: any number, unless what they come to depends on it.
    ///
    /// # Errors
    /// [`Error::Config`] where gradients were rounded on their way between another number of ranks, and still are.
    pub fn check_ranks(&self, config: &Config, n: usize) -> Result<()> {
        let key = "train.reduce_dtype";
        let rounded = config.train.reduce_dtype != ReduceDtype::F32
            && self.changes.iter().all(|change| change.key != key)
            && self.state.position.step > 0;
        match self.run_dir.ranks().filter(|&before| rounded && before != n) {
            None => Ok(()),
            Some(before) => {
                let message = format!(
                    "expected the {before} ranks that the run had so far, found {n}: what comes of gradients that \
                     travel as {} depends on how many there are; with f32 any number goes on",
                    config.train.reduce_dtype.name()
                );
                Err(Error::Config { origin: key.to_owned(), message })
            }
        }
    }

    /// Whether these are data that the run can go on with.
    ///
    /// # Errors
    /// Another training split or teacher, by their SHA-256, unless nothing has been trained yet; other labels; a
    /// position that these data do not have.
    pub fn check_data(
        &self,
        config: &Config,
        (train_split, teacher): (&str, Option<&str>),
        encoders: &Encoders,
        length: &Length,
    ) -> Result<()> {
        let position = &self.state.position;
        let bad = |message| Err(Error::BadFile { path: self.checkpoint.path().to_owned(), message });
        let splits = config.data.splits.display();
        if self.state.encoders != *encoders {
            return bad(format!(
                "expected the training split's labels that the run was started with, found others in {splits}"
            ));
        }
        if position.step > 0 && self.state.train_split != train_split {
            return bad(format!(
                "expected the training split that the run was started with, found another in {splits}"
            ));
        }
        if position.step > 0 && self.state.teacher.as_deref() != teacher {
            return bad(format!(
                "expected the teacher that the run was started with, {}, found {}",
                self.state.teacher.as_deref().unwrap_or("none"),
                teacher.unwrap_or("none")
            ));
        }
        if let Err(message) = length.check(position) {
            return bad(message);
        }
        let lengthened = self.changes.iter().any(|change| change.key == "train.epochs");
        match length.reached(position) {
            Some(limit) if lengthened => limit.check_lengthened(position.step),
            _ => Ok(()),
        }
    }
}

/// The configuration as it means the same in every folder.
///
/// # Errors
/// There is no current folder.
pub fn with_absolute_paths(config: &Config) -> Result<Config> {
    let absolute = |path: &Path| -> Result<PathBuf> { Ok(std::path::absolute(path)?) };
    let mut config = config.clone();
    let data = &mut config.data;
    for path in
        [&mut data.splits, &mut data.images, &mut data.cache_dir].into_iter().chain(&mut data.decisions)
    {
        *path = absolute(path)?;
    }
    if let Some(teacher) = &mut config.loss.teacher {
        *teacher = absolute(teacher)?;
    }
    if init_is_file(&config.model.init) {
        config.model.init = absolute(Path::new(&config.model.init))?.to_string_lossy().into_owned();
    }
    Ok(config)
}

/// A setting that is not what the run was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As `train.epochs`.
    pub key: String,
    /// The value before; `none` where there was none.
    pub before: String,
    /// The value now.
    pub after: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.before, self.after)
    }
}

/// Settings whose state in the checkpoint would have no meaning under another value.
const NEVER: [&str; 3] = ["optimizer.kind", "model.backbone", "tasks"];
/// Settings that decide which images the rest of an epoch has: a position inside it would mean something else.
const BETWEEN_EPOCHS: [&str; 5] =
    ["data.batch_size", "data.image_size", "data.balance", "train.seed", "optimizer.accumulate"];

/// Every setting that differs.
pub fn changes(before: &Config, after: &Config) -> Vec<Change> {
    let (before, after) = (settings(before), settings(after));
    let get = |settings: &[(String, String)], key: &str| {
        let found = settings.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().map(|key| Change {
        key: key.clone(),
        before: get(&before, key),
        after: get(&after, key),
    });
    differing.filter(|change| change.before != change.after).collect()
}

/// Every setting with its value, but for where the run lies, which is no setting of it.
pub fn settings(config: &Config) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    flatten("", Table::try_from(config).expect("a configuration is valid TOML"), &mut settings);
    settings.retain(|(key, _)| key != "run.dir");
    settings
}

/// Refuses what would be unsound for a run that stands at `position`.
///
/// # Errors
/// [`Error::Config`] names the setting, and when it may change.
pub fn check(changes: &[Change], position: &Position) -> Result<()> {
    for change in changes {
        let Change { key, before, after } = change;
        let when = match key.as_str() {
            key if NEVER.contains(&key) => "in a new run",
            key if BETWEEN_EPOCHS.contains(&key) && position.batch > 0 => "at the end of an epoch",
            _ => continue,
        };
        let message =
            format!("expected {before}, as the run was started with, found {after}; it can change {when}");
        return Err(Error::Config { origin: key.clone(), message });
    }
    Ok(())
}

fn flatten(prefix: &str, table: Table, settings: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, settings),
            value => settings.push((key, value.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_and_unsound_ones_refused() {
        let before = Config::default();
        let mut after = before.clone();
        after.train.epochs = 9;
        after.train.patience = Some(2);
        let found = changes(&before, &after);
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["train.epochs: 5 -> 9", "train.patience: none -> 2"]);
        let inside = Position { batch: 3, ..Position::default() };
        check(&found, &inside).unwrap();

        after.data.batch_size = 8;
        let found = changes(&before, &after);
        check(&found, &Position::default()).unwrap();
        let message = check(&found, &inside).unwrap_err().to_string();
        assert!(message.starts_with("data.batch_size: expected 32,"), "{message}");
        after.optimizer.kind = crate::optim::OptimizerKind::Sgd;
        assert!(check(&changes(&before, &after), &Position::default()).is_err());
    }
}
