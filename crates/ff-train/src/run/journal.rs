//! What a run writes down while it runs: every step and epoch, for programs, spreadsheets and TensorBoard.
//!
//! The same records go to `metrics.jsonl`, `metrics.csv` and the event file; nothing is computed here. What an earlier
//! session wrote of later steps is dropped when the first record replaces it, not before.

use ff_core::PerTask;
use ff_eval::TaskMetrics;

use crate::Result;
use crate::position::Position;
use crate::records::{EpochRecord, Record, StepRecord};
use crate::run::RunDir;
use crate::run::tfevents::EventWriter;

/// The metrics files of a run.
#[derive(Debug)]
pub struct Journal {
    run_dir: RunDir,
    from: Position,
    events: Option<EventWriter>,
}

impl Journal {
    /// Goes on in the run's files after this position. Nothing changes there before the first record.
    pub fn after(position: Position, run_dir: &RunDir) -> Self {
        Self { run_dir: run_dir.clone(), from: position, events: None }
    }

    /// Writes a step down.
    pub fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.begin()?;
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
        self.begin()?;
        self.run_dir.record(&Record::Epoch(Box::new(record.clone())))?;
        self.run_dir.record_epoch(&record.csv_header(), &record.csv_row())?;
        let mut tags = figures("val", &record.val);
        tags.extend(record.ema.iter().flat_map(|ema| figures("val_ema", ema)));
        self.scalars(record.step, &tags)
    }

    fn begin(&mut self) -> Result<()> {
        if self.events.is_none() {
            self.run_dir.rewind(&self.from)?;
            self.events = Some(EventWriter::create(self.run_dir.path(), self.from.step + 1)?);
        }
        Ok(())
    }

    fn scalars(&mut self, step: u64, tags: &[(String, f64)]) -> Result<()> {
        let tags: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        let Some(events) = &mut self.events else { return Ok(()) };
        events.scalars(step, &tags)?;
        // Somebody may be watching.
        events.flush()
    }
}

fn figures(prefix: &str, tasks: &PerTask<TaskMetrics>) -> Vec<(String, f64)> {
    let of_task = |(task, m): (_, &TaskMetrics)| {
        [(format!("{prefix}/{task}_accuracy"), m.accuracy), (format!("{prefix}/{task}_nll"), m.nll)]
    };
    tasks.iter().flat_map(of_task).collect()
}
