//! The folder that a run writes: configuration, provenance, metrics, checkpoints.
//!
//! `checkpoints/step-0`, `run.json` and `config.toml` stand, in this order, before the first batch is made: a folder
//! with `config.toml` is a run that can go on, one without can be begun anew. `metrics.jsonl` has a line a step and a
//! line an epoch, `metrics.csv` a row an epoch. `checkpoints/` has `step-N`, the newest few of them, and `last` and
//! `best`, which share their files with them.

pub mod checkpoint;
mod checkpoints;
mod describe;
pub mod journal;
mod origin;
mod records;
pub mod tfevents;

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ff_core::Encoders;
use ff_core::fault::{Point, reach_path};
use ff_core::files::{sweep, write_atomic};
use fs_err as fs;
use fs_err::OpenOptions;
use serde_json::{Map, Value, json};

pub use checkpoints::CheckpointName;
pub use describe::{DataRecord, InitRecord, SplitRecord};
use origin::commit;

use crate::config::Config;
use crate::machine::Machine;
use crate::{Error, Result};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

/// What makes a folder one of several runs, a seed each, and no run of its own.
pub(crate) const OF_SEVERAL_SEEDS: &str = "seeds.json";

/// Held while a process trains in a folder; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

impl Lock {
    /// The file's name.
    pub(crate) const FILE: &'static str = "run.lock";

    /// Takes a folder, and cleans it of what killed processes left.
    ///
    /// # Errors
    /// Another process trains there now.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        reach_path(Point::Create, &path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path)?.into_parts().0;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message =
                    "another process is training in this folder; wait for it, or choose another folder";
                return Err(Error::RunDir { path: folder.to_owned(), message: message.to_owned() });
            }
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
        sweep(folder)?;
        Ok(Self { _file: file })
    }
}

/// What may lie in a folder before a run begins there: what one leaves that was killed before it had begun.
const OF_A_BEGINNING: [&str; 3] = [Lock::FILE, "run.json", "checkpoints"];

impl RunDir {
    /// Makes the folder of a new run: the one asked for, or the next numbered one under `runs/`.
    ///
    /// # Errors
    /// The folder holds a run already, or anything else.
    pub fn create(asked: Option<&Path>, name: &str) -> Result<Self> {
        let run = match asked {
            Some(path) => {
                Self::check_free(path)?;
                Self { path: path.to_owned() }
            }
            None => Self { path: next_numbered(Path::new("runs"), name)? },
        };
        fs::create_dir_all(run.path.join("checkpoints"))?;
        Ok(run)
    }

    /// Whether a run can begin in this folder.
    ///
    /// # Errors
    /// It holds a run already, or anything else.
    pub fn check_free(path: &Path) -> Result<()> {
        let refuse = |message: String| Err(Error::RunDir { path: path.to_owned(), message });
        if path.join("config.toml").exists() {
            return refuse("holds a run already; resume it, or choose another folder".to_owned());
        }
        if path.join(OF_SEVERAL_SEEDS).exists() {
            return refuse("holds runs of several seeds, expected an empty folder or none".to_owned());
        }
        if !path.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if !(name.starts_with('.') || OF_A_BEGINNING.contains(&&*name)) {
                return refuse(format!("expected an empty folder or none, found {name} in it"));
            }
        }
        match (Self { path: path.to_owned() }).steps()?.last() {
            Some(step) if *step > 0 => {
                refuse(format!("expected no run without its config.toml, found the checkpoint step-{step}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a process trains in this folder now. Asking holds the lock for a moment, shared: a process that starts
    /// in that moment is refused.
    pub fn is_training(&self) -> bool {
        let Ok(file) = fs::File::open(self.path.join(Lock::FILE)) else { return false };
        matches!(file.into_parts().0.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The folder of an existing run.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            let found = match path.join(OF_SEVERAL_SEEDS).exists() {
                true => "runs of several seeds; take one of them, as seed-42",
                false => "none",
            };
            let message = format!("expected a run folder with config.toml, found {found}");
            return Err(Error::RunDir { path: path.to_owned(), message });
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The folder of a run that another process has made.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps other processes from training in this folder as long as the result lives, and cleans it of what killed
    /// ones left.
    ///
    /// # Errors
    /// Another process does so now.
    pub fn lock(&self) -> Result<Lock> {
        let lock = Lock::of(&self.path)?;
        let checkpoints = self.path.join("checkpoints");
        if checkpoints.is_dir() {
            sweep(&checkpoints)?;
        }
        Ok(lock)
    }

    /// The run's configuration.
    pub fn config(&self) -> Result<Config> {
        Config::read(&self.path.join("config.toml"))
    }

    /// Writes what the run is: `run.json` and `config.toml`, which makes the folder a run.
    pub fn describe(
        &self,
        config: &Config,
        init: &str,
        init_weights: Option<&InitRecord>,
        machine: &Machine,
        encoders: &Encoders,
        data: &DataRecord,
    ) -> Result<()> {
        self.write_provenance(&json!({
            "commit": commit(),
            "seed": config.train.seed,
            "init": init,
            "init_weights": init_weights,
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine,
            "labels": encoders.each(|_, encoder| encoder.labels().to_vec()),
            "tasks": encoders.schema(),
            "data": data,
        }))?;
        self.write_config(config)
    }

    /// Writes down in `run.json` that the run goes on at `step`, with what changed and with which data.
    pub(crate) fn describe_resumption(
        &self,
        step: u64,
        changes: &[String],
        machine: &Machine,
        data: &DataRecord,
    ) -> Result<()> {
        let mut provenance = self.provenance();
        provenance.insert("data".to_owned(), json!(data));
        let resumed = provenance.entry("resumed").or_insert_with(|| json!([]));
        if !resumed.is_array() {
            *resumed = json!([]);
        }
        resumed.as_array_mut().expect("it is one").push(json!({
            "time": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "step": step,
            "changes": changes,
            "commit": commit(),
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine,
        }));
        let provenance = Value::Object(provenance);
        self.write_provenance(&provenance)
    }

    /// Writes down in `run.json` how many ranks train now.
    pub(crate) fn describe_ranks(&self, n: usize) -> Result<()> {
        let mut provenance = self.provenance();
        provenance.insert("ranks".to_owned(), json!(n));
        self.write_provenance(&Value::Object(provenance))
    }

    /// How many ranks trained last, if that was written down.
    pub(crate) fn ranks(&self) -> Option<usize> {
        self.provenance().get("ranks")?.as_u64().and_then(|n| usize::try_from(n).ok())
    }

    /// What `run.json` says. A run goes on without it: whoever reads it finds less.
    fn provenance(&self) -> Map<String, Value> {
        let text = fs::read_to_string(self.path.join("run.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn write_provenance(&self, provenance: &Value) -> Result<()> {
        Ok(write_atomic(&self.path.join("run.json"), format!("{provenance:#}\n").as_bytes())?)
    }

    /// Writes `config.toml`.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        Ok(write_atomic(&self.path.join("config.toml"), config.to_toml().as_bytes())?)
    }
}

/// Makes the first of `name-001`, `name-002` and so on that is not there. Two processes never get the same.
pub(crate) fn next_numbered(folder: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let mut n = 1;
    loop {
        let path = folder.join(format!("{name}-{n:03}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        RunDir::create(Some(path), "x").unwrap_err().to_string()
    }

    /// It was taken for an empty one, and what had the name of a run's file in it was overwritten.
    #[test]
    fn a_folder_with_other_files_is_no_run_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.csv"), "mine").unwrap();
        assert!(refusal(dir.path()).ends_with("expected an empty folder or none, found metrics.csv in it"));
        fs::remove_file(dir.path().join("metrics.csv")).unwrap();
        fs::create_dir_all(dir.path().join("checkpoints/step-8")).unwrap();
        assert!(refusal(dir.path()).ends_with("found the checkpoint step-8"), "{}", refusal(dir.path()));
    }

    /// What is there before `config.toml` is, and temporary files of a killed process.
    #[test]
    fn a_beginning_that_was_killed_can_begin_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("checkpoints/step-0")).unwrap();
        for name in ["run.json", "run.lock", ".config.toml.17-3.fairface-tmp"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let run = RunDir::create(Some(dir.path()), "x").unwrap();
        let _lock = run.lock().unwrap();
        assert!(!dir.path().join(".config.toml.17-3.fairface-tmp").exists());
    }

    #[test]
    fn numbers_are_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let next = || next_numbered(dir.path(), "train").unwrap().file_name().unwrap().to_owned();
        assert_eq!([next(), next()], ["train-001", "train-002"]);
    }

    #[test]
    fn resumptions_are_written_down_beside_what_the_run_is() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(dir.path()), "x").unwrap();
        let (path, machine) = (dir.path().join("run.json"), Machine::look());
        let read = || serde_json::from_str::<Value>(&fs::read_to_string(&path).unwrap()).unwrap();
        let split = SplitRecord { rows: 7, unknown: [].into_iter().collect() };
        let data = DataRecord { train: split.clone(), val: split.clone(), test: split, fairface: false };
        fs::write(&path, include_str!("../../tests/fixtures/format-2/run.json")).unwrap();
        run.describe_resumption(3, &["train.epochs: 3 -> 4".to_owned()], &machine, &data).unwrap();
        run.describe_resumption(9, &[], &machine, &data).unwrap();
        let found = read();
        assert_eq!((&found["seed"], &found["init"]), (&42.into(), &"random".into()));
        assert_eq!(found["resumed"][0]["changes"][0], "train.epochs: 3 -> 4");
        assert_eq!((&found["resumed"][1]["step"], &found["data"]["train"]["rows"]), (&9.into(), &7.into()));
        assert!(found["resumed"][1]["time"].as_u64().unwrap() > 1_700_000_000);
        for damaged in ["", "half of {", "[1]"] {
            fs::write(&path, damaged).unwrap();
            run.describe_resumption(4, &[], &machine, &data).unwrap();
            assert_eq!(read()["resumed"][0]["step"], 4, "{damaged:?}");
        }
    }
}
