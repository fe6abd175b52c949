//! What a run writes down while it runs: every step and epoch, for programs, spreadsheets and TensorBoard.
//!
//! The same records go to `metrics.jsonl`, `metrics.csv` and the event file; nothing is computed here.

use ff_data::PerTask;

use crate::Result;
use crate::metrics::TaskMetrics;
use crate::records::{EpochRecord, Record, StepRecord};
use crate::run_dir::RunDir;
use crate::tfevents::EventWriter;

/// The metrics files of a run.
#[derive(Debug)]
pub struct Journal {
    run_dir: RunDir,
    events: EventWriter,
}

impl Journal {
    /// Goes on in the run's files with the step after `step`.
    pub fn open(run_dir: &RunDir, step: u64) -> Result<Self> {
        let events = EventWriter::create(run_dir.path(), step + 1)?;
        Ok(Self { run_dir: run_dir.clone(), events })
    }

    /// Writes a step down.
    pub fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.run_dir.record(&Record::Step(record.clone()))?;
        let mut tags = vec![("train/loss".to_owned(), record.loss)];
        tags.extend(record.losses.iter().map(|(task, &loss)| (format!("train/{task}_loss"), loss)));
        tags.push(("train/lr".into(), record.lr));
        tags.push(("train/grad_norm".into(), record.grad_norm));
        tags.push(("train/images_per_s".into(), record.images as f64 / record.seconds.max(1e-9)));
        self.scalars(record.step, &tags)
    }

    /// Writes an epoch down.
    pub fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        self.run_dir.record(&Record::Epoch(Box::new(record.clone())))?;
        self.run_dir.record_epoch(EpochRecord::CSV_HEADER, &record.csv_row())?;
        let mut tags = figures("val", &record.val);
        tags.extend(record.ema.iter().flat_map(|ema| figures("val_ema", ema)));
        self.scalars(record.step, &tags)
    }

    fn scalars(&mut self, step: u64, tags: &[(String, f64)]) -> Result<()> {
        let tags: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.events.scalars(step, &tags)?;
        // Somebody may be watching.
        self.events.flush()
    }
}

fn figures(prefix: &str, tasks: &PerTask<TaskMetrics>) -> Vec<(String, f64)> {
    let of_task = |(task, m): (_, &TaskMetrics)| {
        [(format!("{prefix}/{task}_accuracy"), m.accuracy), (format!("{prefix}/{task}_nll"), m.nll)]
    };
    tasks.iter().flat_map(of_task).collect()
}
