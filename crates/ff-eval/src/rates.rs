//! Rates from counts: selection, true-positive and false-positive rate of a class, and the interval of a share.
//!
//! A class is a yes-or-no question here, one against the rest. A rate without samples to compute it from is `None`,
//! never zero.

use serde::{Deserialize, Serialize};

use crate::ConfusionMatrix;

/// Both ends of an interval that covers 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

/// The 95 % score interval of a share (Wilson, "Probable inference, the law of succession, and statistical
/// inference", 1927): it stays in [0, 1] and has a width even at 0 of n and n of n. `None` where `n` is 0.
pub fn wilson(successes: u64, n: u64) -> Option<Interval> {
    /// The normal distribution's 97.5 % point.
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return None;
    }
    let (n, z2) = (n as f64, Z * Z);
    let share = successes as f64 / n;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // At 0 of n and n of n the ends are 0 and 1; rounding must not push them past the share.
    Some(Interval { low: (centre - half).max(0.0).min(share), high: (centre + half).min(1.0).max(share) })
}

/// The counts of one class in one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Samples of the group.
    pub n: u64,
    /// Those labelled as the class.
    pub positives: u64,
    /// Those predicted as the class.
    pub selected: u64,
    /// Those both labelled and predicted as the class.
    pub hits: u64,
}

impl ClassCounts {
    /// The counts of every class of a group.
    pub fn of_confusion(matrix: &ConfusionMatrix) -> Vec<Self> {
        let n = matrix.n();
        let counts = matrix.by_label().into_iter().zip(matrix.by_prediction()).zip(matrix.hits());
        counts.map(|((positives, selected), hits)| Self { n, positives, selected, hits }).collect()
    }

    /// Share of the samples that are predicted as the class.
    pub fn selection_rate(&self) -> Option<f64> {
        share(self.selected, self.n)
    }

    /// Share of the class's samples that are predicted as it: its recall.
    pub fn true_positive_rate(&self) -> Option<f64> {
        share(self.hits, self.positives)
    }

    /// Share of the other classes' samples that are predicted as it.
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.selected - self.hits, self.n - self.positives)
    }
}

fn share(count: u64, n: u64) -> Option<f64> {
    (n > 0).then(|| count as f64 / n as f64)
}

/// The rates of every class in one group, by class id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Share of the group's samples that are predicted as the class.
    pub selection_rate: Vec<Option<f64>>,
    /// Share of the class's samples that are predicted as it.
    pub true_positive_rate: Vec<Option<f64>>,
    /// Share of the other classes' samples that are predicted as it.
    pub false_positive_rate: Vec<Option<f64>>,
}

impl Rates {
    /// The rates of a group.
    pub fn of_confusion(matrix: &ConfusionMatrix) -> Self {
        let classes = ClassCounts::of_confusion(matrix);
        let rates = |rate: fn(&ClassCounts) -> Option<f64>| classes.iter().map(rate).collect();
        Self {
            selection_rate: rates(ClassCounts::selection_rate),
            true_positive_rate: rates(ClassCounts::true_positive_rate),
            false_positive_rate: rates(ClassCounts::false_positive_rate),
        }
    }
}
