//! One task at one epoch, with what its accuracy has to be held against.

use ff_core::{Encoders, LabelEncoder, PerTask};
use ff_eval::{ConfusionMatrix, TaskMetrics};
use ff_eval::{Interval, wilson};
use ff_train::records::EpochRecord;
use serde::Serialize;

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
    /// Every task at an epoch: the figures of the weights' moving average, where the run keeps one, as its checkpoints
    /// are used with it. Counts are those of the weights themselves.
    pub fn of_epoch(epoch: &EpochRecord, encoders: &Encoders) -> PerTask<Self> {
        let figures = epoch.ema.as_ref().unwrap_or(&epoch.val);
        encoders.each(|task, encoder| Self::new(&figures[task], &epoch.confusion[task], encoder))
    }

    fn new(metrics: &TaskMetrics, confusion: &ConfusionMatrix, encoder: &LabelEncoder) -> Self {
        let (labelled, predicted) = (confusion.by_label(), confusion.by_prediction());
        let name = |class: usize| encoder.decode(class as u32).unwrap_or("?").to_owned();
        let n: u64 = labelled.iter().sum();
        // A file may claim more than all.
        let n_correct = ((metrics.accuracy * n as f64).round() as u64).min(n);
        let (majority, count) =
            labelled.iter().copied().enumerate().rev().max_by_key(|&(_, count)| count).unwrap_or((0, 0));
        let classes = 0..confusion.n_classes();
        Self {
            metrics: metrics.clone(),
            n,
            accuracy_interval: wilson(n_correct, n),
            majority_label: name(majority),
            majority_share: if n == 0 { 0.0 } else { count as f64 / n as f64 },
            never_predicted: classes.filter(|&c| labelled[c] > 0 && predicted[c] == 0).map(name).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff_core::Task;

    #[test]
    fn accuracy_has_something_to_be_held_against() {
        let metrics = TaskMetrics {
            accuracy: 0.5,
            one_off: None,
            balanced_accuracy: 0.4,
            macro_f1: 0.3,
            ece: 0.1,
            nll: 1.0,
        };
        let encoder = LabelEncoder::fit(Task::new("race"), ["a", "b", "c", "d"]).unwrap();
        let confusion = [vec![1, 2, 0, 0], vec![1, 4, 0, 0], vec![2, 0, 0, 0], vec![0, 0, 0, 0]];
        let confusion = ConfusionMatrix::from_rows(&confusion).unwrap();
        let summary = TaskSummary::new(&metrics, &confusion, &encoder);
        assert_eq!((summary.n, summary.majority_label.as_str(), summary.majority_share), (10, "b", 0.5));
        assert_eq!(summary.never_predicted, ["c"], "d does not occur");
        // statsmodels.stats.proportion.proportion_confint(5, 10, method="wilson")
        let interval = summary.accuracy_interval.unwrap();
        assert!(
            (interval.low - 0.236_593_090_5).abs() < 1e-9 && (interval.high - 0.763_406_909_5).abs() < 1e-9
        );
    }
}
