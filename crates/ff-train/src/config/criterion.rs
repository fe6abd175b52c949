//! What the best epoch is best at, on the validation split.

use ff_core::{PerTask, TaskName};
use ff_eval::TaskMetrics;
use serde::{Deserialize, Serialize};

/// What the best epoch is best at; in files `accuracy`, `nll` or a task's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Criterion {
    /// The mean of the tasks' accuracies.
    #[default]
    Accuracy,
    /// The sum of the tasks' negative log-likelihoods; smaller is better.
    Nll,
    /// The accuracy of one task.
    Task(TaskName),
}

impl Criterion {
    /// How good these figures are; more is better. Tasks of which no label is known do not count; NaN if none does.
    pub fn score(&self, tasks: &PerTask<TaskMetrics>) -> f64 {
        let known = |figure: fn(&TaskMetrics) -> f64| {
            let figures: Vec<f64> = tasks.values().map(figure).filter(|x| !x.is_nan()).collect();
            if figures.is_empty() { (f64::NAN, 0) } else { (figures.iter().sum(), figures.len()) }
        };
        match self {
            Self::Accuracy => {
                let (sum, n) = known(|task| task.accuracy);
                sum / n as f64
            }
            Self::Nll => -known(|task| task.nll).0,
            Self::Task(name) => tasks.get(name.as_str()).map_or(f64::NAN, |task| task.accuracy),
        }
    }
}

impl From<Criterion> for String {
    fn from(criterion: Criterion) -> Self {
        match criterion {
            Criterion::Accuracy => "accuracy".to_owned(),
            Criterion::Nll => "nll".to_owned(),
            Criterion::Task(name) => name.into(),
        }
    }
}

impl TryFrom<String> for Criterion {
    type Error = ff_core::schema::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "accuracy" => Ok(Self::Accuracy),
            "nll" => Ok(Self::Nll),
            _ => Ok(Self::Task(TaskName::new(text)?)),
        }
    }
}
