//! One task at one epoch, with what its accuracy has to be held against.

use ff_data::{Encoders, LabelEncoder, PerTask};
use serde::Serialize;

use crate::evaluation::{Interval, wilson};
use crate::metrics::TaskMetrics;
use crate::records::EpochRecord;

/// Validation figures of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskSummary {
    /// The figures.
    #[serde(flatten)]
    pub metrics: TaskMetrics,
    /// Samples behind them.
    pub n: u64,
    /// 95 % Wilson interval of the accuracy.
    pub accuracy_interval: Option<Interval>,
    /// The most common label.
    pub majority_label: String,
    /// Its share: the accuracy of always answering it.
    pub majority_share: f64,
    /// Labels that occur but are never predicted.
    pub never_predicted: Vec<String>,
}

impl TaskSummary {
    /// Every task at an epoch.
    pub fn of_epoch(epoch: &EpochRecord, encoders: &Encoders) -> PerTask<Self> {
        PerTask::from_fn(|task| Self::new(&epoch.val[task], &epoch.confusion[task], &encoders[task]))
    }

    /// From the figures and counts (classes, classes), row = label, column = prediction.
    fn new(metrics: &TaskMetrics, confusion: &[Vec<u64>], encoder: &LabelEncoder) -> Self {
        let labelled: Vec<u64> = confusion.iter().map(|row| row.iter().sum()).collect();
        let predicted = |class: usize| confusion.iter().map(|row| row[class]).sum::<u64>();
        let name = |class: usize| encoder.decode(class as u32).unwrap_or("?").to_owned();
        let n: u64 = labelled.iter().sum();
        let n_correct = (0..confusion.len()).map(|class| confusion[class][class]).sum();
        let (majority, count) =
            labelled.iter().copied().enumerate().rev().max_by_key(|&(_, count)| count).unwrap_or((0, 0));
        let classes = 0..confusion.len();
        Self {
            metrics: metrics.clone(),
            n,
            accuracy_interval: wilson(n_correct, n),
            majority_label: name(majority),
            majority_share: if n == 0 { 0.0 } else { count as f64 / n as f64 },
            never_predicted: classes.filter(|&c| labelled[c] > 0 && predicted(c) == 0).map(name).collect(),
        }
    }
}
