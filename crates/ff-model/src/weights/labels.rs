//! Tasks and the names of their classes, as a model file carries them: `{"age": ["0-2", ...], "gender": [...], "race":
//! [...]}` under `labels` in the safetensors metadata, tasks in the order of the heads and labels in that of the
//! logits.
//!
//! A task of which there is more to say has an object instead of a list: `{"labels": [...], "column": "Age group",
//! "order": "ordered"}`.

use std::path::Path;

use ff_core::{Order, Task, TaskName, argmax};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Error, HeadSpec, Result};

/// The metadata entry that holds the labels.
pub(super) const KEY: &str = "labels";

/// A task and the names of its classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLabels {
    /// The task.
    pub task: Task,
    /// One name a class, in the order of the logits.
    pub labels: Vec<String>,
}

impl TaskLabels {
    /// The head that predicts it.
    pub fn head(&self) -> HeadSpec {
        HeadSpec::new(self.task.name.as_str(), self.labels.len())
    }

    /// The most probable class of a row of logits or probabilities, as [`argmax`] says it; empty where none is.
    pub fn most_probable(&self, row: &[f32]) -> &str {
        argmax(row).and_then(|i| self.labels.get(i)).map_or("", String::as_str)
    }
}

/// The metadata entry of a model with these tasks, in the order of its heads.
pub fn labels_metadata(tasks: &[TaskLabels]) -> (&'static str, String) {
    let written = |TaskLabels { task, labels }: &TaskLabels| {
        let usual = task.column == task.name.as_str() && task.order == Order::of_version_0_1(&task.name);
        let value = match usual {
            true => json!(labels),
            false => json!({ "labels": labels, "column": task.column, "order": task.order }),
        };
        (task.name.to_string(), value)
    };
    let object: Map<String, Value> = tasks.iter().map(written).collect();
    (KEY, Value::Object(object).to_string())
}

/// Reads the value that [`labels_metadata`] wrote; `path` only names the file in errors.
pub(super) fn from_json(path: &Path, json: &str) -> Result<Vec<TaskLabels>> {
    let bad = |message: String| Error::BadLabels { path: path.to_owned(), message };
    let object: Map<String, Value> = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let task = |(name, value): (String, Value)| {
        let written: Written =
            serde_json::from_value(value).map_err(|e| bad(format!("labels of {name}: {e}")))?;
        let name = TaskName::new(name).map_err(|e| bad(e.to_string()))?;
        let (labels, column, order) = match written {
            Written::Labels(labels) => (labels, None, None),
            Written::Task { labels, column, order } => (labels, Some(column), Some(order)),
        };
        if labels.is_empty() {
            return Err(bad(format!("labels of {name}: expected at least one, found none")));
        }
        let column = column.unwrap_or_else(|| name.to_string());
        let order = order.unwrap_or_else(|| Order::of_version_0_1(&name));
        Ok(TaskLabels { task: Task { name, column, order }, labels })
    };
    object.into_iter().map(task).collect()
}

/// A task's value as files have it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of labels, or an object with labels, column and order")]
enum Written {
    Labels(Vec<String>),
    Task { labels: Vec<String>, column: String, order: Order },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_read_back_as_themselves_and_the_usual_ones_are_lists() {
        let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let age = Task::new("age").with_order(Order::Auto);
        let mood = Task::new("mood").with_column("Mood today");
        let tasks = [
            TaskLabels { task: age, labels: labels(&["0-2", "3-9"]) },
            TaskLabels { task: mood, labels: labels(&["calm"]) },
        ];
        let (_, json) = labels_metadata(&tasks);
        assert_eq!(
            json,
            r#"{"age":["0-2","3-9"],"mood":{"labels":["calm"],"column":"Mood today","order":"nominal"}}"#
        );
        assert_eq!(from_json(Path::new("x"), &json).unwrap(), tasks);
        let message = from_json(Path::new("x"), r#"{"a/b": ["c"]}"#).unwrap_err().to_string();
        assert!(message.contains("expected a name of 1 to 64 letters"), "{message}");
    }
}
