//! How many rows every label has in every split.

use std::collections::BTreeMap;

use ff_core::{LabelEncoder, PerTask, Task, TaskName};
use serde::{Deserialize, Serialize};

use crate::{split::Split, splits::Splits};

/// Rows in every split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitCounts {
    /// Rows in `ff_train.csv`.
    pub train: usize,
    /// Rows in `ff_val.csv`.
    pub val: usize,
    /// Rows in `ff_test.csv`.
    pub test: usize,
}

/// A label's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// The label.
    pub label: String,
    /// Its rows.
    #[serde(flatten)]
    pub rows: SplitCounts,
}

/// Labels that differ in case or blanks only: one class in several spellings, as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlikeLabels {
    /// The task.
    pub task: TaskName,
    /// The spellings, two or more.
    pub labels: Vec<String>,
}

impl SplitCounts {
    /// The rows in one split.
    pub fn of(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
            Split::Test => self.test,
        }
    }

    fn count(&mut self, split: Split) {
        match split {
            Split::Train => self.train += 1,
            Split::Val => self.val += 1,
            Split::Test => self.test += 1,
        }
    }
}

impl LabelCounts {
    /// The rows in one split.
    pub fn of(&self, split: Split) -> usize {
        self.rows.of(split)
    }
}

/// Labels of all splits: in their order where they have one, sorted otherwise.
pub(super) fn count(splits: &Splits) -> PerTask<Vec<LabelCounts>> {
    splits.train.schema().per_task(|task| {
        let mut counts: BTreeMap<&str, SplitCounts> = BTreeMap::new();
        for split in Split::ALL {
            for label in splits.get(split).labels(&task.name).flatten() {
                counts.entry(label).or_default().count(split);
            }
        }
        let order = display_order(task, counts.keys().copied());
        let counts: Vec<LabelCounts> =
            counts.into_iter().map(|(label, rows)| LabelCounts { label: label.to_owned(), rows }).collect();
        order.into_iter().map(|i| counts[i].clone()).collect()
    })
}

/// Places of sorted labels in the order to show them. Labels that have not the order that the task says are shown as
/// they are: the encoders of the training split are what training and evaluation fail by.
fn display_order<'l>(task: &Task, labels: impl ExactSizeIterator<Item = &'l str> + Clone) -> Vec<usize> {
    match LabelEncoder::fit(task.clone(), labels.clone()) {
        Ok(encoder) => encoder.display_order(),
        Err(_) => (0..labels.len()).collect(),
    }
}

/// Rows whose label is not known.
pub(super) fn unknown(splits: &Splits) -> PerTask<SplitCounts> {
    splits.train.schema().per_task(|task| {
        let mut counts = SplitCounts::default();
        for split in Split::ALL {
            let unknown = splits.get(split).labels(&task.name).filter(Option::is_none);
            unknown.for_each(|_| counts.count(split));
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
        found.extend(alike.map(|labels| AlikeLabels { task: task.clone(), labels }));
    }
    found
}
