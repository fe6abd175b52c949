//! One value a task, in the schema's order.

use std::fmt;
use std::iter::Map;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};
use std::slice::Iter;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::TaskName;

/// One value a task, in the order of the schema; in files an object with the tasks' names as keys.
///
/// A task's value is found by its name: there are few, so a walk through them is as fast as a table.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PerTask<T> {
    entries: Vec<(TaskName, T)>,
}

impl<T> PerTask<T> {
    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tasks' names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &TaskName> + Clone {
        self.entries.iter().map(|(name, _)| name)
    }

    /// The values, in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> + Clone {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The values, in order, mutable.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// The values without the names.
    pub fn into_values(self) -> impl ExactSizeIterator<Item = T> {
        self.entries.into_iter().map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&TaskName, &T)> + Clone {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// Names and mutable values, in order.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&TaskName, &mut T)> {
        self.entries.iter_mut().map(|(name, value)| (&*name, value))
    }

    /// The value of the task with this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.iter().find(|(task, _)| **task == *name).map(|(_, value)| value)
    }

    /// The value of the task with this name, mutable.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.iter_mut().find(|(task, _)| **task == *name).map(|(_, value)| value)
    }

    /// Applies `f` to each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerTask<U> {
        self.into_iter().map(|(name, value)| (name, f(value))).collect()
    }

    /// Makes another value from each task and its value.
    pub fn each<U>(&self, mut make: impl FnMut(&TaskName, &T) -> U) -> PerTask<U> {
        self.iter().map(|(name, value)| (name.clone(), make(name, value))).collect()
    }

    /// As [`PerTask::each`], or gives the first error.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_each<U, E>(
        &self,
        mut make: impl FnMut(&TaskName, &T) -> Result<U, E>,
    ) -> Result<PerTask<U>, E> {
        self.iter().map(|(name, value)| Ok((name.clone(), make(name, value)?))).collect()
    }

    /// The same tasks with references.
    pub fn as_ref(&self) -> PerTask<&T> {
        self.iter().map(|(name, value)| (name.clone(), value)).collect()
    }

    /// Whether another has the same tasks in the same order.
    pub fn same_tasks<U>(&self, other: &PerTask<U>) -> bool {
        self.names().eq(other.names())
    }
}

impl<T> Default for PerTask<T> {
    /// No tasks.
    fn default() -> Self {
        PerTask { entries: Vec::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for PerTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The value of a task that is there: all of a run have the same tasks.
impl<T, N: AsRef<str> + ?Sized> Index<&N> for PerTask<T> {
    type Output = T;

    fn index(&self, name: &N) -> &T {
        let name = name.as_ref();
        self.get(name).unwrap_or_else(|| panic!("expected a task, found {name:?}"))
    }
}

impl<T, N: AsRef<str> + ?Sized> IndexMut<&N> for PerTask<T> {
    fn index_mut(&mut self, name: &N) -> &mut T {
        let name = name.as_ref();
        self.get_mut(name).unwrap_or_else(|| panic!("expected a task, found {name:?}"))
    }
}

/// Values of distinct tasks.
///
/// # Panics
/// A task comes twice.
impl<T> FromIterator<(TaskName, T)> for PerTask<T> {
    fn from_iter<I: IntoIterator<Item = (TaskName, T)>>(entries: I) -> Self {
        let entries: Vec<(TaskName, T)> = entries.into_iter().collect();
        for (i, (name, _)) in entries.iter().enumerate() {
            assert!(
                entries[..i].iter().all(|(other, _)| other != name),
                "expected each task once, found {name} twice"
            );
        }
        PerTask { entries }
    }
}

impl<T> IntoIterator for PerTask<T> {
    type Item = (TaskName, T);
    type IntoIter = std::vec::IntoIter<(TaskName, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a PerTask<T> {
    type Item = (&'a TaskName, &'a T);
    type IntoIter = Map<Iter<'a, (TaskName, T)>, fn(&'a (TaskName, T)) -> Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter().map(|(name, value)| (name, value))
    }
}

impl<T: Serialize> Serialize for PerTask<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name.as_str(), value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerTask<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tasks<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Tasks<T> {
            type Value = PerTask<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value a task")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(TaskName, T)> = Vec::new();
                while let Some(name) = map.next_key::<TaskName>()? {
                    if entries.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format!(
                            "expected each task once, found {name} twice"
                        )));
                    }
                    if entries.len() == crate::schema::MOST_TASKS {
                        return Err(serde::de::Error::custom(format!(
                            "expected at most {} tasks, found more",
                            crate::schema::MOST_TASKS
                        )));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(PerTask { entries })
            }
        }

        deserializer.deserialize_map(Tasks(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::Schema;

    use super::*;

    #[test]
    fn values_keep_the_order_of_the_schema_in_files_and_are_found_by_name() {
        let mut values = Schema::fairface().per_task(|task| task.name.as_str().len());
        assert_eq!((values["age"], values["gender"], values.get("eyes")), (3, 6, None));
        values["race"] += 1;
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(json, r#"{"age":3,"gender":6,"race":5}"#);
        assert_eq!(serde_json::from_str::<PerTask<usize>>(&json).unwrap(), values);
        let error = serde_json::from_str::<PerTask<usize>>(r#"{"a":1,"a":2}"#).unwrap_err().to_string();
        assert!(error.starts_with("expected each task once, found a twice"), "{error}");
    }
}
