//! How many rows every label has in every split.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    age::AgeBin,
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

/// Labels that differ in case or blanks only: one class in several spellings, as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlikeLabels {
    /// The column.
    pub task: Task,
    /// The spellings, two or more.
    pub labels: Vec<String>,
}

/// Labels of all splits, sorted; ages by age if they all are age bins.
pub(super) fn count(splits: &Splits) -> PerTask<Vec<LabelCounts>> {
    PerTask::from_fn(|task| {
        let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        for split in Split::ALL {
            for label in splits.get(split).labels(task) {
                counts.entry(label).or_default()[split as usize] += 1;
            }
        }
        let counts = counts.into_iter();
        let mut counts: Vec<LabelCounts> = counts
            .map(|(label, [train, val, test])| LabelCounts { label: label.to_owned(), train, val, test })
            .collect();
        if task == Task::Age {
            counts.sort_by_key(|count| count.label.parse::<AgeBin>().map_or(0, |bin| bin.lower));
        }
        counts
    })
}

/// Groups of labels that differ in case or blanks only.
pub(super) fn alike(balance: &PerTask<Vec<LabelCounts>>) -> Vec<AlikeLabels> {
    let mut found = Vec::new();
    for (task, counts) in balance.iter() {
        let mut spellings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for count in counts {
            let plain = count.label.to_lowercase().split_whitespace().collect();
            spellings.entry(plain).or_default().push(count.label.clone());
        }
        let alike = spellings.into_values().filter(|labels| labels.len() > 1);
        found.extend(alike.map(|labels| AlikeLabels { task, labels }));
    }
    found
}
