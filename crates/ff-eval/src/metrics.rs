//! Metrics of one task from counts and sums, so that no figure is a mean of batch means.
//!
//! A [`Tally`] takes one sample at a time and forgets it; [`Tally::metrics`] says what the counts amount to.
//! Definitions are scikit-learn's where it has them.

mod confusion;

use ff_core::argmax;
use ff_core::json::null_as_nan;
use serde::{Deserialize, Serialize};

pub use confusion::ConfusionMatrix;

/// Confidence bins of the expected calibration error.
const CALIBRATION_BINS: usize = 15;

/// What one task's metrics are computed from.
#[derive(Debug, Clone)]
pub struct Tally {
    confusion: ConfusionMatrix,
    /// Rank of each class where classes have an order; one-off accuracy needs it.
    ranks: Option<Vec<u32>>,
    sums: Sums,
    /// Whether probabilities say more than the prediction: calibration and loss need it.
    with_probabilities: bool,
}

/// What is summed beside the counts of classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    n_one_off: u64,
    nll: f64,
    bins: [CalibrationBin; CALIBRATION_BINS],
}

#[derive(Debug, Clone, Copy, Default)]
struct CalibrationBin {
    n: u64,
    n_correct: u64,
    confidence_sum: f64,
}

/// What one sample adds to counts and sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleOutcome {
    pub label: usize,
    pub predicted: usize,
    one_off: bool,
    nll: f64,
    confidence: f64,
    bin: usize,
}

impl SampleOutcome {
    /// Of class probabilities (classes), a target, and the classes' ranks where they have an order.
    pub fn new(probabilities: &[f32], target: u32, ranks: Option<&[u32]>) -> Self {
        let label = target as usize;
        let predicted = argmax(probabilities).expect("one probability at least is a number");
        let confidence = f64::from(probabilities[predicted]);
        Self {
            label,
            predicted,
            one_off: ranks.is_some_and(|ranks| ranks[predicted].abs_diff(ranks[label]) <= 1),
            // The smallest normal float bounds the loss of a sample whose probability underflowed.
            nll: -f64::from(probabilities[label].max(f32::MIN_POSITIVE)).ln(),
            confidence,
            // Bins are (lower, upper], as in Guo et al.
            bin: ((confidence * CALIBRATION_BINS as f64).ceil() as usize).clamp(1, CALIBRATION_BINS) - 1,
        }
    }
}

impl Sums {
    /// Counts a sample so many times.
    pub fn add(&mut self, sample: &SampleOutcome, times: u32) {
        let (count, weight) = (u64::from(times), f64::from(times));
        self.n_one_off += count * u64::from(sample.one_off);
        self.nll += weight * sample.nll;
        let bin = &mut self.bins[sample.bin];
        bin.n += count;
        bin.n_correct += count * u64::from(sample.predicted == sample.label);
        bin.confidence_sum += weight * sample.confidence;
    }
}

/// One bin of a reliability curve: samples whose confidence lies in (lower, upper].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Where the bin begins.
    pub lower: f64,
    /// Where it ends, included.
    pub upper: f64,
    /// Samples in it.
    pub n: u64,
    /// Their mean confidence; `None` without samples.
    pub confidence: Option<f64>,
    /// Share of them that are right; `None` without samples.
    pub accuracy: Option<f64>,
}

/// Figures of one task. NaN, null in files, where nothing defines one: without samples, and those that need
/// probabilities where there are labels only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskMetrics {
    /// Share of samples whose most probable class is the target.
    #[serde(deserialize_with = "null_as_nan")]
    pub accuracy: f64,
    /// Share whose prediction is at most one rank from the target; only where classes have an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_off: Option<f64>,
    /// Mean recall over the classes that occur (`balanced_accuracy_score`).
    #[serde(deserialize_with = "null_as_nan")]
    pub balanced_accuracy: f64,
    /// Mean F1 over the classes that occur or are predicted (`f1_score(average="macro")`).
    #[serde(deserialize_with = "null_as_nan")]
    pub macro_f1: f64,
    /// Expected calibration error with 15 equal-width bins (Guo et al. 2017).
    #[serde(deserialize_with = "null_as_nan")]
    pub ece: f64,
    /// Mean negative log-likelihood, natural logarithm.
    #[serde(deserialize_with = "null_as_nan")]
    pub nll: f64,
}

/// Counts of every class, (classes,).
#[derive(Debug, Clone)]
pub(crate) struct ClassTotals {
    pub labelled: Vec<u64>,
    pub predicted: Vec<u64>,
    pub hits: Vec<u64>,
}

/// What a task allows to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Whether its classes have an order.
    pub ordered: bool,
    /// Whether its probabilities say more than its predictions.
    pub with_probabilities: bool,
}

impl TaskMetrics {
    /// Of no samples.
    pub const UNDEFINED: Self = Self {
        accuracy: f64::NAN,
        one_off: None,
        balanced_accuracy: f64::NAN,
        macro_f1: f64::NAN,
        ece: f64::NAN,
        nll: f64::NAN,
    };

    /// What counts and sums amount to; `None` without samples.
    pub(crate) fn of(classes: &ClassTotals, sums: &Sums, kind: Kind) -> Option<Self> {
        let ClassTotals { labelled, predicted, hits } = classes;
        let n: u64 = labelled.iter().sum();
        if n == 0 {
            return None;
        }
        let share = |count: u64| count as f64 / n as f64;
        let classes =
            || labelled.iter().zip(predicted).zip(hits).map(|((&l, &p), &hits)| (l, p, hits as f64));
        let recalls = classes().filter(|(labelled, ..)| *labelled > 0).map(|(l, _, hits)| hits / l as f64);
        let seen = classes().filter(|(labelled, predicted, _)| labelled + predicted > 0);
        let f1s = seen.map(|(labelled, predicted, hits)| 2.0 * hits / (labelled + predicted) as f64);
        let gaps = sums.bins.iter().map(|bin| (bin.confidence_sum - bin.n_correct as f64).abs());
        let probabilistic = |sum: f64| if kind.with_probabilities { sum / n as f64 } else { f64::NAN };
        Some(Self {
            accuracy: share(hits.iter().sum()),
            one_off: kind.ordered.then(|| share(sums.n_one_off)),
            balanced_accuracy: mean(recalls),
            macro_f1: mean(f1s),
            ece: probabilistic(gaps.sum::<f64>()),
            nll: probabilistic(sums.nll),
        })
    }
}

impl Tally {
    /// An empty tally; `ranks[id]` is the place of class `id` in the order of classes, if there is one.
    pub fn new(n_classes: usize, ranks: Option<Vec<u32>>) -> Self {
        let confusion = ConfusionMatrix::new(n_classes);
        Self { confusion, ranks, sums: Sums::default(), with_probabilities: true }
    }

    /// The same for predictions that are labels: rows of one for a class and zero for the others. Calibration error
    /// and loss are NaN, and the reliability curve has no samples.
    pub fn of_labels_only(self) -> Self {
        Self { with_probabilities: false, ..self }
    }

    /// Counts one sample: its class probabilities (classes) and its target.
    ///
    /// # Panics
    /// The number of probabilities is not the number of classes, none of them is a number, or the target is no class.
    pub fn add(&mut self, probabilities: &[f32], target: u32) {
        assert_eq!(probabilities.len(), self.confusion.n_classes(), "one probability a class");
        let sample = SampleOutcome::new(probabilities, target, self.ranks.as_deref());
        self.confusion.add(sample.label, sample.predicted);
        self.sums.add(&sample, 1);
    }

    /// What was taken for what.
    pub fn confusion(&self) -> &ConfusionMatrix {
        &self.confusion
    }

    /// The reliability curve: accuracy over confidence in 15 equal-width bins (Guo et al. 2017).
    pub fn reliability(&self) -> Vec<ReliabilityBin> {
        let none = Default::default();
        let bins = if self.with_probabilities { &self.sums.bins } else { &none };
        let edge = |i: usize| i as f64 / CALIBRATION_BINS as f64;
        let bin = |(i, bin): (usize, &CalibrationBin)| {
            let mean = |sum: f64| (bin.n > 0).then(|| sum / bin.n as f64);
            let (confidence, accuracy) = (mean(bin.confidence_sum), mean(bin.n_correct as f64));
            ReliabilityBin { lower: edge(i), upper: edge(i + 1), n: bin.n, confidence, accuracy }
        };
        bins.iter().enumerate().map(bin).collect()
    }

    /// The figures; `None` without samples.
    pub fn metrics(&self) -> Option<TaskMetrics> {
        let classes = ClassTotals {
            labelled: self.confusion.by_label(),
            predicted: self.confusion.by_prediction(),
            hits: self.confusion.hits(),
        };
        let kind = Kind { ordered: self.ranks.is_some(), with_probabilities: self.with_probabilities };
        TaskMetrics::of(&classes, &self.sums, kind)
    }
}

/// Class probabilities of one row of logits, computed in f64.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|&x| f64::from(x - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| (e / sum) as f32).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
    sum / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Expected values: `tests/metrics_golden.py`, scikit-learn on the same six samples.
    #[test]
    fn figures_agree_with_scikit_learn() {
        let samples: [([f32; 3], u32); 6] = [
            ([0.7, 0.2, 0.1], 0),
            ([0.1, 0.6, 0.3], 1),
            ([0.2, 0.5, 0.3], 2),
            ([0.3, 0.3, 0.4], 0),
            ([0.8, 0.1, 0.1], 1),
            ([0.9, 0.05, 0.05], 0),
        ];
        let mut tally = Tally::new(3, Some(vec![1, 0, 2]));
        for (probabilities, target) in samples {
            tally.add(&probabilities, target);
        }
        let m = tally.metrics().unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} vs {b}");
        close(m.accuracy, 0.5);
        close(m.balanced_accuracy, 0.388_888_888_888_888_9);
        close(m.macro_f1, 0.388_888_888_888_888_9);
        close(m.nll, 0.947_231_964);
        // Wrong ones: target 2 (rank 2) as 1 (rank 0); target 0 (rank 1) as 2 (rank 2); target 1 (rank 0) as 0 (rank
        // 1).
        close(m.one_off.unwrap(), 5.0 / 6.0);
        // Bins of 1/15: .4 and .5 wrong, .6 and .7 right, .8 wrong, .9 right, each in a bin of its own.
        close(m.ece, (0.4 + 0.5 + 0.4 + 0.3 + 0.8 + 0.1) / 6.0);
    }

    #[test]
    fn without_samples_there_are_no_figures() {
        assert_eq!(Tally::new(2, None).metrics(), None);
    }

    proptest! {
        #[test]
        fn softmax_is_a_distribution_and_ignores_shifts(logits in prop::collection::vec(-40.0f32..40.0, 1..9)) {
            let p = softmax(&logits);
            prop_assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            let shifted = softmax(&logits.iter().map(|x| x + 64.0).collect::<Vec<_>>());
            for (a, b) in p.iter().zip(shifted) {
                prop_assert!((a - b).abs() < 1e-4);
            }
        }
    }
}
