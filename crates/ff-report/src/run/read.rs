//! What a run folder holds, as a report needs it: tolerant of what other versions wrote or left out.

use std::path::Path;

use ff_core::text::list;
use ff_core::{Encoders, PerTask, Schema};
use ff_train::records::{EpochRecord, Record, StepRecord};
use ff_train::run::{DataRecord, InitRecord};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// `run.json`: where a run comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The commit of the working folder.
    pub commit: Option<String>,
    /// Decides initial values, order, augmentation and dropout.
    pub seed: Option<u64>,
    /// Where the initial weights came from: `random` or a file.
    pub init: Option<String>,
    /// The file that they came in, if they are from one.
    pub init_weights: Option<InitRecord>,
    /// This project's version.
    pub version: Option<String>,
    /// The machine, as it was found.
    pub machine: Map<String, Value>,
    /// Labels a task, by class id.
    pub labels: Option<PerTask<Vec<String>>>,
    /// The tasks, with their columns and orders.
    pub tasks: Option<Schema>,
    /// Rows and labels.
    pub data: Option<DataRecord>,
}

/// Reads `run.json`; a run without one has an unknown provenance.
pub fn provenance(run: &Path) -> Result<Provenance> {
    let path = run.join("run.json");
    if !path.exists() {
        return Ok(Provenance::default());
    }
    serde_json::from_str(&fs::read_to_string(&path)?)
        .map_err(|e| Error::BadFile { path, message: e.to_string() })
}

/// The lines of `metrics.jsonl`.
#[derive(Debug, Default, PartialEq)]
pub struct Records {
    pub steps: Vec<StepRecord>,
    pub epochs: Vec<EpochRecord>,
    /// Where each epoch stands, counted from 1.
    lines: Vec<usize>,
}

impl Records {
    /// Whether every epoch's counts are of the classes that the run has.
    ///
    /// # Errors
    /// The message names the file and the line.
    pub fn check(&self, run: &Path, encoders: &Encoders) -> Result<()> {
        for (epoch, line) in self.epochs.iter().zip(&self.lines) {
            let same = epoch.confusion.same_tasks(encoders) && epoch.val.same_tasks(encoders);
            let same = same && epoch.ema.as_ref().is_none_or(|ema| ema.same_tasks(encoders));
            if !same {
                let names: Vec<String> = encoders.names().map(ToString::to_string).collect();
                let message = format!("line {line}: expected the tasks {}, found others", list(&names));
                return Err(Error::BadFile { path: run.join("metrics.jsonl"), message });
            }
            for (task, confusion) in epoch.confusion.iter() {
                let (expected, found) = (encoders[task].n_classes(), confusion.n_classes());
                if expected != found {
                    let message = format!(
                        "line {line}: confusion of {task}: expected {expected} classes, as the run has labels, found {found}"
                    );
                    return Err(Error::BadFile { path: run.join("metrics.jsonl"), message });
                }
            }
        }
        Ok(())
    }
}

/// Reads `metrics.jsonl`. A run that has not begun has none, and one that is going on may have half a last line.
pub fn records(run: &Path) -> Result<Records> {
    let path = run.join("metrics.jsonl");
    let Records { mut steps, mut epochs, mut lines } = Records::default();
    if !path.exists() {
        return Ok(Records { steps, epochs, lines });
    }
    let text = fs::read_to_string(&path)?;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(Record::Step(record)) => steps.push(record),
            Ok(Record::Epoch(record)) => {
                epochs.push(*record);
                lines.push(i + 1);
            }
            Err(_) if !line.ends_with('\n') => {}
            Err(e) => {
                let message = format!("line {}: expected a record, found {e}", i + 1);
                return Err(Error::BadFile { path, message });
            }
        }
    }
    Ok(Records { steps, epochs, lines })
}

/// Reads `config.toml` as it stands, keys of other versions included.
pub fn config(run: &Path) -> Result<(String, toml::Table)> {
    let path = run.join("config.toml");
    let text = fs::read_to_string(&path)?;
    let table = text.parse().map_err(|e: toml::de::Error| {
        let message = e.to_string().trim_end().to_owned();
        ff_train::Error::Config { origin: path.display().to_string(), message }
    })?;
    Ok((text, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = r#"{"kind":"step","epoch":1,"step":1,"loss":3.0,"losses":{"age":1.0,"gender":1.0,"race":1.0},"lr":0.1,"grad_norm":2.0,"images":4,"seconds":0.5,"of_tomorrow":7}"#;

    #[test]
    fn half_a_last_line_is_a_run_that_goes_on_and_half_another_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(dir.path().join("metrics.jsonl"), text).unwrap();
        assert_eq!(records(dir.path()).unwrap(), Records::default(), "not begun");
        write(&format!("{STEP}\n{}", &STEP[..40]));
        assert_eq!(records(dir.path()).unwrap().steps.len(), 1);
        write(&format!("{STEP}\n{}\n{STEP}\n", &STEP[..40]));
        let message = records(dir.path()).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl: line 2: expected a record"), "{message}");
    }

    #[test]
    fn provenance_of_another_version_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(provenance(dir.path()).unwrap(), Provenance::default());
        fs::write(dir.path().join("run.json"), r#"{"seed": 3, "weather": "fine"}"#).unwrap();
        assert_eq!(provenance(dir.path()).unwrap().seed, Some(3));
    }
}
