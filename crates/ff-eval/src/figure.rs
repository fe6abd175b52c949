//! The figures that comparisons give and requirements name: their names stand here and nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TaskMetrics;

/// A figure of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// [`TaskMetrics::accuracy`]; without a task the mean over the tasks.
    Accuracy,
    /// [`TaskMetrics::one_off`]
    OneOff,
    /// [`TaskMetrics::balanced_accuracy`]
    BalancedAccuracy,
    /// [`TaskMetrics::macro_f1`]
    MacroF1,
    /// [`TaskMetrics::ece`]
    Ece,
    /// [`TaskMetrics::nll`]
    Nll,
    /// The lowest accuracy of a group.
    WorstAccuracy,
    /// The highest accuracy of a group less the lowest.
    AccuracyGap,
    /// The largest difference in selection rate over the classes.
    DemographicParity,
    /// The largest difference in true- or false-positive rate over the classes.
    EqualizedOdds,
}

impl Figure {
    /// Those of a task's samples, or of a group of them.
    pub const OF_SAMPLES: [Self; 6] =
        [Self::Accuracy, Self::OneOff, Self::BalancedAccuracy, Self::MacroF1, Self::Ece, Self::Nll];
    /// Those that lie between groups.
    pub const BETWEEN_GROUPS: [Self; 4] =
        [Self::WorstAccuracy, Self::AccuracyGap, Self::DemographicParity, Self::EqualizedOdds];

    /// What it is called in files and requirements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::OneOff => "one_off",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::MacroF1 => "macro_f1",
            Self::Ece => "ece",
            Self::Nll => "nll",
            Self::WorstAccuracy => "worst_accuracy",
            Self::AccuracyGap => "accuracy_gap",
            Self::DemographicParity => "demographic_parity",
            Self::EqualizedOdds => "equalized_odds",
        }
    }

    /// The figure of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|figure| figure.name() == name)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OF_SAMPLES.into_iter().chain(Self::BETWEEN_GROUPS)
    }

    /// Whether it lies between groups.
    pub fn is_between_groups(self) -> bool {
        Self::BETWEEN_GROUPS.contains(&self)
    }

    /// Its value among a task's; `None` where it is not defined, or lies between groups.
    pub fn of(self, metrics: &TaskMetrics) -> Option<f64> {
        let value = match self {
            Self::Accuracy => Some(metrics.accuracy),
            Self::OneOff => metrics.one_off,
            Self::BalancedAccuracy => Some(metrics.balanced_accuracy),
            Self::MacroF1 => Some(metrics.macro_f1),
            Self::Ece => Some(metrics.ece),
            Self::Nll => Some(metrics.nll),
            Self::WorstAccuracy | Self::AccuracyGap | Self::DemographicParity | Self::EqualizedOdds => None,
        };
        value.filter(|value| !value.is_nan())
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_requirements_have_the_same_names() {
        for figure in Figure::all() {
            assert_eq!(serde_json::to_value(figure).unwrap(), figure.name());
            assert_eq!(Figure::named(figure.name()), Some(figure));
        }
        assert_eq!(Figure::named("acuracy"), None);
    }
}
