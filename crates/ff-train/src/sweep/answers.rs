//! Which validation faces a finished run gets right: what paired intervals are made of.
//!
//! They lie in the run's folder as `evaluate` writes them of its last checkpoint, the weights' average where the run
//! keeps one, and are made when they are not there yet.

use std::ops::ControlFlow;
use std::path::Path;

use ff_core::files::{read_within, write_atomic};
use ff_core::table::Table;
use ff_core::{PerTask, TaskName};
use ff_eval::{TaskMetrics, per_sample_csv};

use crate::config::Config;
use crate::infer::{Trained, TrainedSource, open_trained, predict};
use crate::run::{CheckpointName, RunDir};
use crate::setup::eval_feeder;
use crate::{Error, Result};

/// In the run's folder.
const FILE: &str = "evaluation/val-last.csv";
/// A few hundred bytes a face.
const MOST_BYTES: u64 = 1 << 30;

/// Whether every validation face was told right, a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The faces.
    pub files: Vec<String>,
    /// In their order; `None` where the label is not known.
    pub correct: PerTask<Vec<Option<bool>>>,
}

impl Answers {
    /// Those of a finished run with these figures. A file that has others is of an earlier end of the run, and made
    /// anew.
    ///
    /// # Errors
    /// The run's model or data cannot be used; a file that is not as it was written.
    pub fn of(run: &RunDir, figures: &PerTask<TaskMetrics>) -> Result<Self> {
        let path = run.path().join(FILE);
        let config = run.config()?;
        if path.exists() {
            let kept = Self::read(&path, &config)?;
            if figures.iter().all(|(task, figures)| kept.agrees(task, figures.accuracy)) {
                return Ok(kept);
            }
        }
        let source = TrainedSource::Run { dir: run.path().to_owned(), which: CheckpointName::Last };
        let Trained { mut model, encoders, .. } = open_trained(&source, &config.train.compute()?)?;
        let val = config.read_splits()?.val;
        let mut feeder = eval_feeder(&config, val, &config.data.images, &encoders, &model)?;
        let predictions = predict(&mut model, &mut feeder, |_| ControlFlow::Continue(()))?;
        let predictions = predictions.expect("nothing breaks it off");
        let csv = per_sample_csv(&predictions, &encoders, &[])?;
        fs_err::create_dir_all(run.path().join("evaluation"))?;
        write_atomic(&path, csv.as_bytes())?;
        Self::read(&path, &config)
    }

    fn read(path: &Path, config: &Config) -> Result<Self> {
        let mut bytes = Vec::new();
        read_within(path, MOST_BYTES, &mut bytes)?;
        Self::parse(path, &bytes, config.tasks.names())
    }

    fn agrees(&self, task: &TaskName, accuracy: f64) -> bool {
        let known = || self.correct.get(task.as_str()).into_iter().flatten().flatten();
        let share = known().filter(|correct| **correct).count() as f64 / known().count() as f64;
        (share - accuracy).abs() < 1e-9 || (share.is_nan() && accuracy.is_nan())
    }

    fn parse<'t>(path: &Path, bytes: &[u8], tasks: impl Iterator<Item = &'t TaskName>) -> Result<Self> {
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        let mut table = Table::new(path, bytes).map_err(|e| bad(e.to_string()))?;
        let place = |column: String| {
            let place = table.header.iter().position(|name| *name == column);
            place.ok_or_else(|| bad(format!("expected the column {column}, found none")))
        };
        let file = place("file".to_owned())?;
        let columns = tasks.map(|task| Ok((task.clone(), place(format!("{task}_correct"))?)));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut answers = Self {
            files: Vec::new(),
            correct: columns.iter().map(|(task, _)| (task.clone(), Vec::new())).collect(),
        };
        while let Some(row) = table.next_row().map_err(|e| bad(e.to_string()))? {
            answers.files.push(row.fields[file].to_owned());
            for (task, column) in &columns {
                let correct = match row.fields[*column] {
                    "true" => Some(true),
                    "false" => Some(false),
                    "" => None,
                    found => {
                        return Err(bad(format!("line {}: expected true or false, found {found}", row.line)));
                    }
                };
                answers.correct[task].push(correct);
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_evaluations_write_them() {
        let schema = ff_core::Schema::fairface();
        let csv = "file,age,age_predicted,age_correct,gender_correct,race_correct\n\
                   a.jpg,3-9,3-9,true,,false\nb.jpg,3-9,0-2,false,true,\n";
        let answers = Answers::parse(Path::new("x.csv"), csv.as_bytes(), schema.names()).unwrap();
        assert_eq!(answers.files, ["a.jpg", "b.jpg"]);
        assert_eq!(answers.correct["age"], [Some(true), Some(false)]);
        assert_eq!(answers.correct["gender"], [None, Some(true)]);
        let message = |csv: &str| {
            Answers::parse(Path::new("x.csv"), csv.as_bytes(), schema.names()).unwrap_err().to_string()
        };
        assert_eq!(message("file,age_correct\n"), "x.csv: expected the column gender_correct, found none");
        let bad = csv.replace(",true,\n", ",yes,\n");
        assert_eq!(message(&bad), "x.csv: line 3: expected true or false, found yes");
    }
}
