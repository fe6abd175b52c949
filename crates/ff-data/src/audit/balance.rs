//! How many rows every label has in every split.

use serde::Serialize;

use crate::{
    age::AgeBin,
    labels::LabelEncoder,
    splits::{Split, Splits},
    task::{PerTask, Task},
};

/// A label's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// The label.
    pub label: String,
    /// Rows in `ff_train.csv`.
    pub train: usize,
    /// Rows in `ff_val.csv`.
    pub val: usize,
    /// Rows in `ff_test.csv`.
    pub test: usize,
}

impl LabelCounts {
    /// The rows in one split.
    pub fn of(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
            Split::Test => self.test,
        }
    }
}

/// Labels of all splits, sorted; ages by age if they all are age bins.
pub(super) fn count(splits: &Splits) -> PerTask<Vec<LabelCounts>> {
    PerTask::from_fn(|task| {
        let all = Split::ALL.into_iter().flat_map(|split| splits.get(split).labels(task));
        let encoder = LabelEncoder::fit(task, all).expect("splits have at least one training row");
        let mut labels: Vec<&String> = encoder.labels().iter().collect();
        if task == Task::Age {
            let lower = |label: &&String| label.parse::<AgeBin>().map_or(0, |bin| bin.lower);
            labels.sort_by_key(lower);
        }
        let rows = |label: &str, split: Split| {
            splits.get(split).labels(task).filter(|&found| found == label).count()
        };
        let counts = |label: &String| LabelCounts {
            train: rows(label, Split::Train),
            val: rows(label, Split::Val),
            test: rows(label, Split::Test),
            label: label.clone(),
        };
        labels.into_iter().map(counts).collect()
    })
}
