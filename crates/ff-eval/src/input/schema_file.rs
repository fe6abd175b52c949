//! What a file of predictions is about: tasks, and the spellings of their labels.
//!
//! ```toml
//! [[tasks]]
//! name = "gender"
//!
//! [labels.gender]
//! "F" = "Female"
//! "M" = "Male"
//! "-" = ""          # not known
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use ff_core::{Schema, TaskName};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{Error, Result};

/// Bytes of a schema file.
const MAX_LEN: u64 = 1 << 20;

/// Tasks and spellings. The default is FairFace's tasks, and labels as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaFile {
    /// The tasks.
    pub schema: Schema,
    /// What labels are written as.
    pub spellings: Spellings,
}

/// Spelling -> label, a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spellings(BTreeMap<TaskName, BTreeMap<String, String>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tasks: Schema,
    #[serde(default)]
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// [`Requirement::read_all`](crate::Requirement::read_all) reads it: one file may hold both.
    #[serde(default, rename = "require")]
    _require: IgnoredAny,
}

impl SchemaFile {
    /// Reads a TOML of `[[tasks]]` and `[labels.TASK]`; without tasks they are FairFace's.
    ///
    /// # Errors
    /// It cannot be read, or says something else; labels of a task that there is not.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        let mut bytes = Vec::new();
        ff_core::files::read_within(path, MAX_LEN, &mut bytes)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
        let Written { tasks, labels, .. } = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        let mut spellings = BTreeMap::new();
        for (task, map) in labels {
            let task = tasks.task(&task).map_err(|error| bad(format!("labels: {error}")))?;
            let trimmed = map.into_iter().map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned()));
            spellings.insert(task.name.clone(), trimmed.collect());
        }
        Ok(Self { schema: tasks, spellings: Spellings(spellings) })
    }
}

impl Spellings {
    /// What a spelling stands for, without blanks around it; empty for what is not known.
    pub fn label<'a>(&'a self, task: &TaskName, spelling: &'a str) -> &'a str {
        let spelling = spelling.trim();
        self.0.get(task).and_then(|map| map.get(spelling)).map_or(spelling, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<SchemaFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.toml");
        fs_err::write(&path, text).unwrap();
        SchemaFile::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn spellings_belong_to_a_task_that_there_is() {
        let found = read("[[tasks]]\nname = 'gender'\n[labels.gender]\n'F ' = 'Female'\n'-' = ''\n").unwrap();
        let gender = TaskName::new("gender").unwrap();
        let label = |spelling| found.spellings.label(&gender, spelling);
        assert_eq!([label(" F"), label("Male"), label("-")], ["Female", "Male", ""]);
        assert_eq!(found.schema.len(), 1);
        assert_eq!(read("").unwrap(), SchemaFile::default());
        let message = read("[labels.eyes]\n").unwrap_err();
        assert!(
            message.ends_with("labels: expected a task: age, gender or race, found \"eyes\""),
            "{message}"
        );
        assert!(read("[label.age]\n").unwrap_err().contains("unknown field `label`"));
    }
}
