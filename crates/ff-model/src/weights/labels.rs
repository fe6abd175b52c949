//! The names of the classes, as a model file carries them: `{"age": ["0-2", ...], "gender": [...], "race": [...]}`
//! under `labels` in the safetensors metadata, tasks in the order of the heads and labels in that of the logits.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, HeadSpec, Result, argmax};

/// The metadata entry that holds the labels.
pub(super) const KEY: &str = "labels";

/// A task and the names of its classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLabels {
    /// The task's name, as `age`.
    pub task: String,
    /// One name a class, in the order of the logits.
    pub labels: Vec<String>,
}

impl TaskLabels {
    /// The head that predicts it.
    pub fn head(&self) -> HeadSpec {
        HeadSpec::new(self.task.clone(), self.labels.len())
    }

    /// The most probable class of a row of logits or probabilities, as [`argmax`] says it; empty where none is.
    pub fn most_probable(&self, row: &[f32]) -> &str {
        argmax(row).and_then(|i| self.labels.get(i)).map_or("", String::as_str)
    }
}

/// The metadata entry of a model with these tasks, in the order of its heads.
pub fn labels_metadata(tasks: &[TaskLabels]) -> (&'static str, String) {
    let object: Map<String, Value> =
        tasks.iter().map(|t| (t.task.clone(), Value::from(t.labels.clone()))).collect();
    (KEY, Value::Object(object).to_string())
}

/// Reads the value that [`labels_metadata`] wrote; `path` only names the file in errors.
pub(super) fn from_json(path: &Path, json: &str) -> Result<Vec<TaskLabels>> {
    let bad = |message: String| Error::BadLabels { path: path.to_owned(), message };
    let object: Map<String, Value> = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let task = |(task, labels): (String, Value)| {
        let labels: Vec<String> =
            serde_json::from_value(labels).map_err(|e| bad(format!("labels of {task}: {e}")))?;
        if labels.is_empty() {
            return Err(bad(format!("labels of {task}: expected at least one, found none")));
        }
        Ok(TaskLabels { task, labels })
    };
    object.into_iter().map(task).collect()
}
