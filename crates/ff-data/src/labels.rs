//! Label strings <-> class ids, fitted on the training split.
//!
//! Ids are the lexicographic order of the distinct labels, as Python's `sorted(set(labels))` gives (UTF-8 byte order
//! is code point order). So age ids are not in age order, `10-19 < 20-29 < 3-9`: whatever needs order goes through
//! [`age_order`](crate::age_order). Class counts come from here and from nowhere else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, shortened},
    manifest::Manifest,
    task::{PerTask, Task},
};

/// Labels that a column may have: a column of names or numbers, taken by mistake, would make a head for each.
const MAX_CLASSES: usize = 1024;

/// The three encoders; saved with every checkpoint.
pub type Encoders = PerTask<LabelEncoder>;

/// The labels of one task; a label's id is its place in their sorted list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "RawEncoder", try_from = "RawEncoder")]
pub struct LabelEncoder {
    task: Task,
    labels: Vec<String>,
}

impl LabelEncoder {
    /// Collects the distinct labels.
    ///
    /// # Errors
    /// There are none.
    pub fn fit<'a>(task: Task, labels: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let distinct: BTreeSet<&str> = labels.into_iter().collect();
        Self::from_sorted(task, distinct.into_iter().map(str::to_owned).collect())
    }

    /// Takes labels that are sorted already, as they were saved.
    ///
    /// # Errors
    /// No labels, or labels unsorted or repeated: their ids would not be those that a model was trained with.
    pub fn from_sorted(task: Task, labels: Vec<String>) -> Result<Self> {
        let bad = |reason| Err(Error::BadEncoder { task, reason });
        if labels.is_empty() {
            return bad("expected at least one label, found none".to_owned());
        }
        match labels.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) if pair[0] == pair[1] => {
                bad(format!("expected distinct labels, found {:?} twice", pair[0]))
            }
            Some(pair) => bad(format!("expected sorted labels, found {:?} before {:?}", pair[0], pair[1])),
            None => Ok(LabelEncoder { task, labels }),
        }
    }

    /// The id of a label, in `0..n_classes`.
    ///
    /// # Errors
    /// [`Error::UnseenLabel`] for a label that is not in the training split.
    pub fn encode(&self, label: &str) -> Result<u32> {
        match self.labels.binary_search_by(|known| known.as_str().cmp(label)) {
            Ok(id) => Ok(id as u32),
            Err(_) => Err(Error::UnseenLabel {
                task: self.task,
                label: shortened(label),
                known: self.labels.clone(),
            }),
        }
    }

    /// The label of an id; `None` from `n_classes` on.
    pub fn decode(&self, id: u32) -> Option<&str> {
        self.labels.get(id as usize).map(String::as_str)
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.labels.len()
    }

    /// All labels, in the order of their ids.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The task that the labels belong to.
    pub fn task(&self) -> Task {
        self.task
    }
}

impl PerTask<LabelEncoder> {
    /// Fits the three encoders, on the training split as a rule.
    ///
    /// # Errors
    /// The manifest has no rows, or a column so many labels that it must be the wrong one.
    pub fn fit(manifest: &Manifest) -> Result<Self> {
        if manifest.is_empty() {
            return Err(Error::NoRows { path: manifest.path().to_owned() });
        }
        PerTask::try_from_fn(|task| {
            let encoder = LabelEncoder::fit(task, manifest.labels(task))?;
            let found = encoder.n_classes();
            if found > MAX_CLASSES {
                let reason = format!("expected at most {MAX_CLASSES} labels in column {task}, found {found}");
                return Err(Error::BadFile { path: manifest.path().to_owned(), reason });
            }
            Ok(encoder)
        })
    }

    /// Class counts, which size the model's heads.
    pub fn n_classes(&self) -> PerTask<usize> {
        self.as_ref().map(LabelEncoder::n_classes)
    }

    /// The encoders as JSON, `{"age": {"task": "age", "labels": [...]}, ...}`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("string lists always serialise")
    }

    /// Reads what [`Encoders::to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// Not that JSON; unsorted or repeated labels; an encoder that stands under another task's name.
    pub fn from_json(json: &str) -> Result<Self> {
        let encoders: Encoders =
            serde_json::from_str(json).map_err(|error| Error::Json(error.to_string()))?;
        for (task, encoder) in encoders.iter() {
            if encoder.task != task {
                let reason = format!("expected labels of {task}, found labels of {}", encoder.task);
                return Err(Error::BadEncoder { task, reason });
            }
        }
        Ok(encoders)
    }
}

/// The encoder as it is saved, before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEncoder {
    task: Task,
    labels: Vec<String>,
}

impl From<LabelEncoder> for RawEncoder {
    fn from(LabelEncoder { task, labels }: LabelEncoder) -> Self {
        RawEncoder { task, labels }
    }
}

impl TryFrom<RawEncoder> for LabelEncoder {
    type Error = Error;

    fn try_from(RawEncoder { task, labels }: RawEncoder) -> Result<Self> {
        LabelEncoder::from_sorted(task, labels)
    }
}
