//! What the best epoch is best at.

use ff_core::PerTask;
use ff_eval::TaskMetrics;
use serde::{Deserialize, Serialize};

/// What the best epoch is best at, on the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    /// The mean of the tasks' accuracies.
    #[default]
    Accuracy,
    /// The accuracy of age.
    Age,
    /// The accuracy of gender.
    Gender,
    /// The accuracy of race.
    Race,
    /// The sum of the tasks' negative log-likelihoods; smaller is better.
    Nll,
}

impl Criterion {
    /// How good these figures are; more is better.
    pub fn score(self, tasks: &PerTask<TaskMetrics>) -> f64 {
        match self {
            Self::Accuracy => mean(tasks.values().map(|t| t.accuracy)),
            Self::Age => tasks.age.accuracy,
            Self::Gender => tasks.gender.accuracy,
            Self::Race => tasks.race.accuracy,
            Self::Nll => -tasks.values().map(|t| t.nll).sum::<f64>(),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
    sum / n
}
