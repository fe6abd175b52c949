//! `metrics.jsonl` and `metrics.csv`: a line a step, a line and a row an epoch.

use ff_core::files::{append, write_atomic};
use fs_err as fs;

use super::RunDir;
use crate::Result;
use crate::position::Position;
use crate::records::{EpochRecord, Record};

impl RunDir {
    /// Adds a line to `metrics.jsonl`.
    pub fn record(&self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).expect("records are JSON");
        line.push('\n');
        self.append("metrics.jsonl", &line)
    }

    /// Adds a row to `metrics.csv`, and its header if it is the first.
    pub fn record_epoch(&self, header: &str, row: &str) -> Result<()> {
        let new = !self.path().join("metrics.csv").exists();
        self.append("metrics.csv", &if new { format!("{header}\n{row}\n") } else { format!("{row}\n") })
    }

    /// The newest epoch that is recorded, if there is one. A line that is none, as half a last one, is passed over.
    pub fn last_epoch(&self) -> Result<Option<EpochRecord>> {
        let path = self.path().join("metrics.jsonl");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path)?;
        Ok(text.lines().rev().find_map(|line| match serde_json::from_str(line) {
            Ok(Record::Epoch(record)) => Some(*record),
            Ok(Record::Step(_)) | Err(_) => None,
        }))
    }

    /// Seconds of training and evaluation of all epochs that are recorded.
    pub fn seconds(&self) -> Result<f64> {
        let text = fs::read_to_string(self.path().join("metrics.jsonl"))?;
        let of_line = |line| match serde_json::from_str(line) {
            Ok(Record::Epoch(record)) => record.seconds.training() + record.seconds.evaluation,
            Ok(Record::Step(_)) | Err(_) => 0.0,
        };
        Ok(text.lines().map(of_line).sum())
    }

    fn append(&self, name: &str, text: &str) -> Result<()> {
        Ok(append(&self.path().join(name), text)?)
    }

    /// Drops what was recorded after this position, and a half-written last line. An epoch that is not over comes
    /// again, so what was recorded of it is dropped too.
    pub fn rewind(&self, position: &Position) -> Result<()> {
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
        let path = self.path().join(name);
        if !path.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(&path)?;
        let kept = text.lines().enumerate().filter(|(i, line)| keep(*i, line));
        let kept: String = kept.map(|(_, line)| format!("{line}\n")).collect();
        if kept == text { Ok(()) } else { Ok(write_atomic(&path, kept.as_bytes())?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
