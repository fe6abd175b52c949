//! What is predicted: tasks, in the order in which heads, losses and tables show them.
//!
//! A [`Schema`] is data, read from `[[tasks]]` of a configuration; FairFace's three are the preset. Whatever has one
//! value a task is a [`PerTask`]. Nothing here knows rows or tensors; the labels of a task are
//! [`labels`](crate::labels)'.
//!
//! ```
//! use ff_core::schema::{Order, Schema, Task};
//!
//! let schema = Schema::new(vec![
//!     Task::new("emotion"),
//!     Task::new("age").with_column("age_group").with_order(Order::Ordered),
//! ])?;
//! let columns = schema.per_task(|task| task.column.clone());
//! assert_eq!(columns["age"], "age_group");
//! # Ok::<(), ff_core::schema::Error>(())
//! ```

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::per_task::PerTask;

/// Tasks that a schema may have: their heads are small, their tables are read by people.
pub const MOST_TASKS: usize = 64;
/// Letters of a task's name.
const LONGEST_NAME: usize = 64;
/// What stands beside tasks where their names are keys.
const RESERVED: [&str; 8] = ["file", "box", "error", "n", "accuracy", "nll", "loss", "none"];

/// What is wrong with a schema, a label list or a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tasks that cannot be told apart, or are none.
    #[error("tasks: {0}")]
    BadSchema(String),
    /// A name that is no task of the schema.
    #[error("expected a task: {}, found {found:?}", crate::text::either(known))]
    NoSuchTask {
        /// The tasks that there are.
        known: Vec<String>,
        /// The name given.
        found: String,
    },
    /// A label that the encoder has never seen.
    #[error(
        "{task} label {label:?} is not in the training split: expected one of {}",
        crate::text::list(known)
    )]
    UnseenLabel {
        /// The task.
        task: TaskName,
        /// The label found.
        label: String,
        /// The labels of the training split.
        known: Vec<String>,
    },
    /// A label list that is not a label encoder: empty, unsorted, with a label twice, or without the order it should
    /// have.
    #[error("{task} encoder: {reason}")]
    BadEncoder {
        /// The task.
        task: TaskName,
        /// What was expected and found.
        reason: String,
    },
    /// A label that is no bin.
    #[error("expected a bin such as \"20-29\", \"70+\" or \"more than 70\", found {0:?}")]
    BadBin(String),
}

/// The name of a task: 1 to 64 letters, digits, `_` and `-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TaskName(Arc<str>);

/// One attribute that is predicted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Task {
    /// What it is called in configurations, reports, tensors and files.
    pub name: TaskName,
    /// The CSV column that holds its labels.
    pub column: String,
    /// Whether its classes have an order.
    pub order: Order,
}

/// Whether a task's classes have an order, and which. One-off accuracy, ordinal losses and plots ask for it; class ids
/// never follow it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "WrittenOrder", try_from = "WrittenOrder")]
pub enum Order {
    /// No order.
    #[default]
    Nominal,
    /// By the lower bounds of bins such as `20-29` or `more than 70`, which all labels must be.
    Ordered,
    /// As [`Order::Ordered`] where all labels are bins, none otherwise: FairFace's age.
    Auto,
    /// These labels, from the lowest; no others occur.
    List(Vec<String>),
}

/// The tasks: at least one, each with a name and a column of its own. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Task>", try_from = "Vec<Task>")]
pub struct Schema(Arc<[Task]>);

impl Schema {
    /// Checks tasks.
    ///
    /// # Errors
    /// There are none or more than [`MOST_TASKS`], or two have the same name or column.
    pub fn new(tasks: Vec<Task>) -> Result<Self, Error> {
        if tasks.is_empty() || tasks.len() > MOST_TASKS {
            let reason = format!("expected from 1 to {MOST_TASKS} of them, found {}", tasks.len());
            return Err(Error::BadSchema(reason));
        }
        for (i, task) in tasks.iter().enumerate() {
            if let Some(other) = tasks[..i].iter().find(|other| other.name == task.name) {
                return Err(Error::BadSchema(format!(
                    "expected names of their own, found {} twice",
                    other.name
                )));
            }
            if let Some(other) = tasks[..i].iter().find(|other| other.column == task.column) {
                return Err(Error::BadSchema(format!(
                    "expected columns of their own, found {:?} for {} and {}",
                    task.column, other.name, task.name
                )));
            }
        }
        Ok(Schema(tasks.into()))
    }

    /// FairFace's: age, gender, race. Ages are ordered where they are bins.
    pub fn fairface() -> Self {
        let age = Task::new("age").with_order(Order::Auto);
        Schema([age, Task::new("gender"), Task::new("race")].into())
    }

    /// The tasks, in order.
    pub fn tasks(&self) -> &[Task] {
        &self.0
    }

    /// Number of tasks, at least one.
    #[expect(clippy::len_without_is_empty, reason = "no schema is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &TaskName> + Clone {
        self.0.iter().map(|task| &task.name)
    }

    /// The task with this name.
    ///
    /// # Errors
    /// There is none; the message has those that there are.
    pub fn task(&self, name: &str) -> Result<&Task, Error> {
        self.0.iter().find(|task| task.name == *name).ok_or_else(|| Error::NoSuchTask {
            known: self.names().map(TaskName::to_string).collect(),
            found: name.to_owned(),
        })
    }

    /// A value a task.
    pub fn per_task<T>(&self, mut make: impl FnMut(&Task) -> T) -> PerTask<T> {
        self.0.iter().map(|task| (task.name.clone(), make(task))).collect()
    }

    /// A value a task, or the first error.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_per_task<T, E>(&self, mut make: impl FnMut(&Task) -> Result<T, E>) -> Result<PerTask<T>, E> {
        self.0.iter().map(|task| Ok((task.name.clone(), make(task)?))).collect()
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::fairface()
    }
}

impl From<Schema> for Vec<Task> {
    fn from(schema: Schema) -> Self {
        schema.0.to_vec()
    }
}

impl TryFrom<Vec<Task>> for Schema {
    type Error = Error;

    fn try_from(tasks: Vec<Task>) -> Result<Self, Error> {
        Schema::new(tasks)
    }
}

impl Task {
    /// A nominal task whose column is called as itself.
    ///
    /// # Panics
    /// The name is none, see [`TaskName`].
    pub fn new(name: &str) -> Self {
        let name = TaskName::new(name).unwrap_or_else(|error| panic!("{error}"));
        Task { column: name.to_string(), name, order: Order::Nominal }
    }

    /// The same with another column.
    pub fn with_column(self, column: impl Into<String>) -> Self {
        Task { column: column.into(), ..self }
    }

    /// The same with an order.
    pub fn with_order(self, order: Order) -> Self {
        Task { order, ..self }
    }
}

/// A task as files have it: the column is the name's, and the order none, unless they say otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: TaskName,
    column: Option<String>,
    #[serde(default)]
    order: Order,
}

impl TryFrom<Written> for Task {
    type Error = Error;

    fn try_from(Written { name, column, order }: Written) -> Result<Self, Error> {
        let column = column.unwrap_or_else(|| name.to_string());
        if column.trim().is_empty() || column != column.trim() || column == "file" {
            return Err(Error::BadSchema(format!(
                "column of {name}: expected a name without blanks around it, and not file, found {column:?}"
            )));
        }
        Ok(Task { name, column, order })
    }
}

/// An order as files have it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected nominal, ordered, auto or a list of labels")]
enum WrittenOrder {
    Word(String),
    List(Vec<String>),
}

impl From<Order> for WrittenOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Nominal => WrittenOrder::Word("nominal".to_owned()),
            Order::Ordered => WrittenOrder::Word("ordered".to_owned()),
            Order::Auto => WrittenOrder::Word("auto".to_owned()),
            Order::List(labels) => WrittenOrder::List(labels),
        }
    }
}

impl TryFrom<WrittenOrder> for Order {
    type Error = Error;

    fn try_from(order: WrittenOrder) -> Result<Self, Error> {
        match order {
            WrittenOrder::Word(word) => match word.as_str() {
                "nominal" => Ok(Order::Nominal),
                "ordered" => Ok(Order::Ordered),
                "auto" => Ok(Order::Auto),
                _ => Err(Error::BadSchema(format!(
                    "order: expected nominal, ordered, auto or a list of labels, found {word:?}"
                ))),
            },
            WrittenOrder::List(labels) => {
                if let Some(i) = (1..labels.len()).find(|&i| labels[..i].contains(&labels[i])) {
                    return Err(Error::BadSchema(format!(
                        "order: expected distinct labels, found {:?} twice",
                        labels[i]
                    )));
                }
                Ok(Order::List(labels))
            }
        }
    }
}

impl TaskName {
    /// Checks a name.
    ///
    /// # Errors
    /// It is empty, too long, has other signs than letters, digits, `_` and `-`, or stands for something else in files.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
            return Err(Error::BadSchema(format!(
                "expected a name of 1 to {LONGEST_NAME} letters, digits, _ and -, found {:?}",
                crate::text::shortened(&name)
            )));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::BadSchema(format!(
                "expected a name other than {}, found {name}",
                RESERVED.join(", ")
            )));
        }
        Ok(TaskName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for TaskName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TaskName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for TaskName {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for TaskName {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl From<TaskName> for String {
    fn from(name: TaskName) -> Self {
        name.0.to_string()
    }
}

impl TryFrom<String> for TaskName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        TaskName::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Schema, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_schema_reads_back_as_itself_and_a_task_needs_a_name_only() {
        let schema = read(
            r#"[{"name": "emotion"}, {"name": "size", "column": "Size (cm)", "order": ["S", "M", "L"]},
                {"name": "age", "order": "ordered"}]"#,
        )
        .unwrap();
        assert_eq!(schema.tasks()[0], Task::new("emotion"));
        assert_eq!(schema.tasks()[1].column, "Size (cm)");
        assert_eq!(read(&serde_json::to_string(&schema).unwrap()).unwrap(), schema);
        assert_eq!(
            schema.task("size").unwrap().order,
            Order::List(["S", "M", "L"].map(str::to_owned).to_vec())
        );
        assert_eq!(
            schema.task("sizes").unwrap_err().to_string(),
            "expected a task: emotion, size or age, found \"sizes\""
        );
    }

    #[test]
    fn tasks_that_cannot_be_told_apart_are_refused() {
        for (json, message) in [
            ("[]", "tasks: expected from 1 to 64 of them, found 0"),
            (
                r#"[{"name": "a"}, {"name": "a", "column": "b"}]"#,
                "tasks: expected names of their own, found a twice",
            ),
            (
                r#"[{"name": "a"}, {"name": "b", "column": "a"}]"#,
                "tasks: expected columns of their own, found \"a\" for a and b",
            ),
            (
                r#"[{"name": "../x"}]"#,
                "tasks: expected a name of 1 to 64 letters, digits, _ and -, found \"../x\"",
            ),
            (r#"[{"name": "file"}]"#, "tasks: expected a name other than file,"),
            (r#"[{"name": "a", "column": "file"}]"#, "tasks: column of a: expected a name without blanks"),
            (
                r#"[{"name": "a", "order": "sorted"}]"#,
                "tasks: order: expected nominal, ordered, auto or a list",
            ),
            (
                r#"[{"name": "a", "order": ["x", "x"]}]"#,
                "tasks: order: expected distinct labels, found \"x\" twice",
            ),
            (r#"[{"name": "a", "ordr": "nominal"}]"#, "unknown field `ordr`"),
        ] {
            let found = read(json).unwrap_err();
            assert!(found.starts_with(message), "{json}: {found}");
        }
    }
}
