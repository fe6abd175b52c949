//! The three tasks, and a container with one value for each of them.
//!
//! The order `age, gender, race` is fixed: logits, losses and reports all follow it.

use std::{
    fmt,
    ops::{Index, IndexMut},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One of the attributes that are predicted; also the CSV column that holds its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Age bin, such as `20-29`.
    Age,
    /// Gender.
    Gender,
    /// Race.
    Race,
}

impl Task {
    /// Every task, in the fixed order.
    pub const ALL: [Task; 3] = [Task::Age, Task::Gender, Task::Race];

    /// The name used in CSV headers, configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Task::Age => "age",
            Task::Gender => "gender",
            Task::Race => "race",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Task::ALL.into_iter().find(|task| task.name() == name).ok_or_else(|| Error::UnknownName {
            expected: "a task: age, gender or race",
            found: name.to_owned(),
        })
    }
}

/// One value per task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerTask<T> {
    /// The value for [`Task::Age`].
    pub age: T,
    /// The value for [`Task::Gender`].
    pub gender: T,
    /// The value for [`Task::Race`].
    pub race: T,
}

impl<T> PerTask<T> {
    /// Makes each value from its task.
    pub fn from_fn(mut make: impl FnMut(Task) -> T) -> Self {
        PerTask { age: make(Task::Age), gender: make(Task::Gender), race: make(Task::Race) }
    }

    /// Makes each value from its task, or gives the first error.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_from_fn<E>(mut make: impl FnMut(Task) -> Result<T, E>) -> Result<Self, E> {
        Ok(PerTask { age: make(Task::Age)?, gender: make(Task::Gender)?, race: make(Task::Race)? })
    }

    /// Applies `f` to each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerTask<U> {
        PerTask { age: f(self.age), gender: f(self.gender), race: f(self.race) }
    }

    /// The same container with references.
    pub fn as_ref(&self) -> PerTask<&T> {
        PerTask { age: &self.age, gender: &self.gender, race: &self.race }
    }

    /// The same container with mutable references.
    pub fn as_mut(&mut self) -> PerTask<&mut T> {
        PerTask { age: &mut self.age, gender: &mut self.gender, race: &mut self.race }
    }

    /// Tasks and values, in the fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Task, &T)> {
        self.as_ref().into_iter()
    }

    /// Tasks and mutable values, in the fixed order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Task, &mut T)> {
        self.as_mut().into_iter()
    }

    /// The values alone, in the fixed order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        [&self.age, &self.gender, &self.race].into_iter()
    }
}

impl<T> IntoIterator for PerTask<T> {
    type Item = (Task, T);
    type IntoIter = std::array::IntoIter<(Task, T), 3>;

    fn into_iter(self) -> Self::IntoIter {
        [(Task::Age, self.age), (Task::Gender, self.gender), (Task::Race, self.race)].into_iter()
    }
}

impl<T> Index<Task> for PerTask<T> {
    type Output = T;

    fn index(&self, task: Task) -> &T {
        match task {
            Task::Age => &self.age,
            Task::Gender => &self.gender,
            Task::Race => &self.race,
        }
    }
}

impl<T> IndexMut<Task> for PerTask<T> {
    fn index_mut(&mut self, task: Task) -> &mut T {
        match task {
            Task::Age => &mut self.age,
            Task::Gender => &mut self.gender,
            Task::Race => &mut self.race,
        }
    }
}
