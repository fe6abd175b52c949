//! The folder that a run writes: configuration, provenance, metrics, checkpoints.
//!
//! `config.toml` and `run.json` stand before step 0; `metrics.jsonl` has a line a step and a line an epoch,
//! `metrics.csv` a row an epoch. `checkpoints/` has `step-N`, the newest few of them, and `last` and `best`, which share
//! their files with them. On resume, what was written after the checkpoint is cut off: those steps come again.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use ff_core::files::{append, is_temporary, link_dir, remove_dir, write_atomic};
use ff_data::{Encoders, LabelEncoder};
use fs_err as fs;
use fs_err::OpenOptions;

use crate::checkpoint::{Checkpoint, Position};
use crate::config::Config;
use crate::machine::Machine;
use crate::records::Record;
use crate::{Error, Result};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

/// Held while a process trains in a folder; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

/// Which checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Last,
    /// The one after the best epoch by `[train] criterion`.
    Best,
}

impl Which {
    /// The folder's name under `checkpoints/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

impl RunDir {
    /// Makes the folder of a new run: the one asked for, or the next numbered one under `runs/`.
    ///
    /// # Errors
    /// The folder holds a run already, or files of somebody else.
    pub fn create(asked: Option<&Path>, name: &str) -> Result<Self> {
        let path = match asked {
            Some(path) => path.to_owned(),
            None => (1..)
                .map(|n| PathBuf::from(format!("runs/{name}-{n:03}")))
                .find(|p| !p.exists())
                .expect("endless"),
        };
        if path.join("config.toml").exists() {
            let message =
                "holds a run already; continue it with --resume, or choose another --run-dir".to_owned();
            return Err(Error::RunDir { path, message });
        }
        if let Some(name) = foreign_file(&path)? {
            let message = format!(
                "expected a new or empty folder, or one of a run that never began, found {name} in it; choose \
                 another folder"
            );
            return Err(Error::RunDir { path, message });
        }
        fs::create_dir_all(path.join("checkpoints"))?;
        Ok(Self { path })
    }

    /// The folder of an existing run.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            let message = "expected a run folder with config.toml, found none".to_owned();
            return Err(Error::RunDir { path: path.to_owned(), message });
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps other processes from training in this folder as long as the result lives.
    ///
    /// # Errors
    /// Another process does so now.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path.join("run.lock");
        let file = OpenOptions::new().create(true).append(true).open(&path)?.into_parts().0;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let message =
                    "another process is training in this folder; wait for it, or choose another --run-dir";
                Err(Error::RunDir { path: self.path.clone(), message: message.to_owned() })
            }
            Err(TryLockError::Error(e)) => Err(e.into()),
        }
    }

    /// The folder of one checkpoint.
    pub fn checkpoint(&self, which: Which) -> PathBuf {
        self.named_checkpoint(which.name())
    }

    /// The folder of the checkpoint with this name: `last`, `best`, `step-N`.
    pub fn named_checkpoint(&self, name: &str) -> PathBuf {
        self.path.join("checkpoints").join(name)
    }

    /// The folder of the checkpoint after `step`.
    pub fn step_checkpoint(&self, step: u64) -> PathBuf {
        self.named_checkpoint(&format!("step-{step}"))
    }

    /// Makes the checkpoint after `step` the last one, and the best one too if it is; keeps the `keep` newest.
    pub fn publish(&self, step: u64, best: bool, keep: usize) -> Result<()> {
        let newest = self.step_checkpoint(step);
        link_dir(&newest, &self.checkpoint(Which::Last))?;
        if best {
            link_dir(&newest, &self.checkpoint(Which::Best))?;
        }
        let steps = self.steps()?;
        let old = steps.iter().rev().filter(|&&s| s <= step).skip(keep);
        old.copied().try_for_each(|step| Ok(remove_dir(&self.step_checkpoint(step))?))
    }

    /// The checkpoint to go on from.
    ///
    /// # Errors
    /// It is missing or damaged; the message names the newest that is whole.
    pub fn checkpoint_to_resume(&self, name: &str) -> Result<Checkpoint> {
        let opened = Checkpoint::open(&self.named_checkpoint(name));
        let damage = match opened.and_then(|checkpoint| checkpoint.verify().map(|()| checkpoint)) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(damage) => damage,
        };
        let whole = |step: &&u64| {
            let checkpoint = Checkpoint::open(&self.step_checkpoint(**step));
            checkpoint.and_then(|checkpoint| checkpoint.verify()).is_ok()
        };
        let steps = self.steps()?;
        let advice = match steps.iter().rev().find(whole) {
            Some(step) => format!("step-{step} is whole; go on from it with --checkpoint step-{step}"),
            None => "no other checkpoint is whole".to_owned(),
        };
        Err(Error::RunDir { path: self.path.clone(), message: format!("{damage}; {advice}") })
    }

    /// Steps that there are checkpoints of, in ascending order.
    fn steps(&self) -> Result<Vec<u64>> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(self.path.join("checkpoints"))? {
            let name = entry?.file_name();
            steps.extend(name.to_str().and_then(|name| name.strip_prefix("step-")?.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// The run's configuration.
    pub fn config(&self) -> Result<Config> {
        Config::read(&self.path.join("config.toml"))
    }

    /// Writes what the run is: `config.toml` and `run.json`.
    pub fn describe(
        &self,
        config: &Config,
        init: &str,
        machine: &Machine,
        encoders: &Encoders,
    ) -> Result<()> {
        self.write_config(config)?;
        let provenance = serde_json::json!({
            "commit": commit(),
            "seed": config.train.seed,
            "init": init,
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine,
            "labels": encoders.as_ref().map(LabelEncoder::labels),
        });
        Ok(write_atomic(&self.path.join("run.json"), format!("{provenance:#}\n").as_bytes())?)
    }

    /// Writes `config.toml`.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        Ok(write_atomic(&self.path.join("config.toml"), config.to_toml().as_bytes())?)
    }

    /// Adds a line to `metrics.jsonl`.
    pub fn record(&self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).expect("records are JSON");
        line.push('\n');
        self.append("metrics.jsonl", &line)
    }

    /// Adds a row to `metrics.csv`, and its header if it is the first.
    pub fn record_epoch(&self, header: &str, row: &str) -> Result<()> {
        let new = !self.path.join("metrics.csv").exists();
        self.append("metrics.csv", &if new { format!("{header}\n{row}\n") } else { format!("{row}\n") })
    }

    fn append(&self, name: &str, text: &str) -> Result<()> {
        Ok(append(&self.path.join(name), text)?)
    }

    /// Drops what was recorded or saved after this position, and a half-written last line. An epoch that is not over
    /// comes again, so what was recorded of it is dropped too.
    pub fn rewind(&self, position: &Position) -> Result<()> {
        for later in self.steps()?.into_iter().filter(|&step| step > position.step) {
            remove_dir(&self.step_checkpoint(later))?;
        }
        self.keep_lines("metrics.jsonl", |_, line| match serde_json::from_str(line) {
            Ok(Record::Step(record)) => record.step <= position.step,
            Ok(Record::Epoch(record)) => record.epoch <= position.epoch,
            Err(_) => false,
        })?;
        // The epoch is the first column.
        let epoch = |line: &str| line.split(',').next().and_then(|epoch| epoch.parse::<u64>().ok());
        self.keep_lines("metrics.csv", |i, line| i == 0 || epoch(line).is_some_and(|e| e <= position.epoch))
    }

    fn keep_lines(&self, name: &str, keep: impl Fn(usize, &str) -> bool) -> Result<()> {
        let path = self.path.join(name);
        if !path.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(&path)?;
        let kept = text.lines().enumerate().filter(|(i, line)| keep(*i, line));
        let kept: String = kept.map(|(_, line)| format!("{line}\n")).collect();
        Ok(write_atomic(&path, kept.as_bytes())?)
    }
}

/// What a folder without a run holds that no run would have left there before its `config.toml`.
fn foreign_file(path: &Path) -> Result<Option<String>> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !["checkpoints", "run.lock"].contains(&name.as_str()) && !is_temporary(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The commit of the working folder, where git knows one.
fn commit() -> Option<String> {
    let output = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_elses_files_becomes_no_run() {
        let dir = tempfile::tempdir().unwrap();
        // What a run leaves that is killed before its configuration stands.
        fs::create_dir(dir.path().join("checkpoints")).unwrap();
        fs::write(dir.path().join("run.lock"), "").unwrap();
        fs::write(dir.path().join(".config.toml.7-0.fairface-tmp"), "half").unwrap();
        RunDir::create(Some(dir.path()), "x").unwrap();
        fs::write(dir.path().join("metrics.csv"), "the user's").unwrap();
        let message = RunDir::create(Some(dir.path()), "x").unwrap_err().to_string();
        assert!(message.contains("found metrics.csv in it"), "{message}");
        assert!(RunDir::create(Some(&dir.path().join("metrics.csv")), "x").is_err(), "a file is no folder");
        RunDir::create(Some(&dir.path().join("new/run")), "x").unwrap();
    }

    #[test]
    fn rewinding_drops_later_and_half_written_records() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(dir.path()), "x").unwrap();
        let step = |step: u64| {
            format!(
                r#"{{"kind":"step","epoch":1,"step":{step},"loss":1.0,"losses":{{"age":1.0,"gender":0.0,"race":0.0}},"lr":1.0,"grad_norm":1.0,"images":1,"seconds":1.0}}"#
            )
        };
        let lines = [step(1), step(2), step(3), "{\"kind\":".to_owned()].join("\n");
        run.append("metrics.jsonl", &lines).unwrap();
        (1..=3).for_each(|epoch| run.record_epoch("epoch,step", &format!("{epoch},{epoch}")).unwrap());
        run.rewind(&Position { step: 2, epoch: 1, ..Position::default() }).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("metrics.jsonl"), format!("{}\n{}\n", step(1), step(2)));
        assert_eq!(read("metrics.csv"), "epoch,step\n1,1\n");
    }
}
