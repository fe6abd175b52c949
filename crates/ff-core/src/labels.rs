//! Label strings <-> class ids, fitted on the training split.
//!
//! Ids are the lexicographic order of the distinct labels, as Python's `sorted(set(labels))` gives (UTF-8 byte order
//! is code point order). So age ids are not in age order, `10-19 < 20-29 < 3-9`: whatever needs order asks
//! [`LabelEncoder::ranks`]. Class counts come from here and from nowhere else. A label that is not known has no class
//! and no place in any count: it is [`UNKNOWN`].

use std::collections::BTreeSet;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::bins;
use crate::schema::{Error, Order, PerTask, Schema, Task, TaskName};
use crate::text::shortened;

/// Stands for a class id where the label is not known.
pub const UNKNOWN: u32 = u32::MAX;

/// FairFace's labels, in the order of its model's outputs and of the scores that its `predict.py` writes.
pub const FAIRFACE_LABELS: [(&str, &[&str]); 3] = [
    (
        "race",
        &["White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"],
    ),
    ("gender", &["Male", "Female"]),
    ("age", &["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]),
];

/// The labels of one task; a label's id is its place in their sorted list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct LabelEncoder {
    task: Task,
    labels: Vec<String>,
    ranks: Option<Vec<u32>>,
}

impl LabelEncoder {
    /// Collects the distinct labels.
    ///
    /// # Errors
    /// There are none, or they have not the order that the task says.
    pub fn fit<'a>(task: Task, labels: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let distinct: BTreeSet<&str> = labels.into_iter().collect();
        Self::from_sorted(task, distinct.into_iter().map(str::to_owned).collect())
    }

    /// Takes labels that are sorted already, as they were saved.
    ///
    /// # Errors
    /// No labels, or labels unsorted or repeated: their ids would not be those that a model was trained with. Labels that
    /// have not the order that the task says.
    pub fn from_sorted(task: Task, labels: Vec<String>) -> Result<Self, Error> {
        let bad = |reason| Err(Error::BadEncoder { task: task.name.clone(), reason });
        if labels.is_empty() {
            return bad("expected at least one label, found none".to_owned());
        }
        match labels.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) if pair[0] == pair[1] => {
                return bad(format!("expected distinct labels, found {:?} twice", pair[0]));
            }
            Some(pair) => {
                return bad(format!("expected sorted labels, found {:?} before {:?}", pair[0], pair[1]));
            }
            None => {}
        }
        match ranks(&task.order, &labels) {
            Ok(ranks) => Ok(LabelEncoder { task, labels, ranks }),
            Err(reason) => bad(reason),
        }
    }

    /// The id of a label, in `0..n_classes`.
    ///
    /// # Errors
    /// [`Error::UnseenLabel`] for a label that is not in the training split.
    pub fn encode(&self, label: &str) -> Result<u32, Error> {
        match self.labels.binary_search_by(|known| known.as_str().cmp(label)) {
            Ok(id) => Ok(id as u32),
            Err(_) => Err(Error::UnseenLabel {
                task: self.task.name.clone(),
                label: shortened(label),
                known: self.labels.clone(),
            }),
        }
    }

    /// The label of an id; `None` from `n_classes` on, hence for [`UNKNOWN`].
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
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The rank of every class id in the order of the classes, 0 the lowest; `None` where they have no order.
    pub fn ranks(&self) -> Option<&[u32]> {
        self.ranks.as_deref()
    }

    /// Class ids in the order to show them: by rank where they have one.
    pub fn display_order(&self) -> Vec<usize> {
        let mut ids: Vec<usize> = (0..self.n_classes()).collect();
        if let Some(ranks) = &self.ranks {
            ids.sort_by_key(|&id| ranks[id]);
        }
        ids
    }
}

/// Ranks of sorted labels, or why they have not the order that they should.
fn ranks(order: &Order, labels: &[String]) -> Result<Option<Vec<u32>>, String> {
    match order {
        Order::Nominal => Ok(None),
        Order::Auto => Ok(bins::ranks(labels).ok()),
        Order::Ordered => bins::ranks(labels).map(Some).map_err(|reason| {
            format!("{reason}; order = [\"lowest\", ..., \"highest\"] gives another order, order = \"nominal\" none")
        }),
        Order::List(list) => {
            let place = |label: &String| list.iter().position(|listed| listed == label);
            let places: Option<Vec<usize>> = labels.iter().map(place).collect();
            let Some(places) = places else {
                let missing = labels.iter().find(|label| place(label).is_none()).map_or("", String::as_str);
                let list = crate::text::list(list);
                return Err(format!("expected labels that its order lists: {list}, found {:?}", shortened(missing)));
            };
            // Ranks are of the labels that occur: listed ones that do not leave no gap.
            let rank = |place: &usize| places.iter().filter(|other| *other < place).count() as u32;
            Ok(Some(places.iter().map(rank).collect()))
        }
    }
}

/// One encoder a task: the fitted schema. Saved with every checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PerTask<LabelEncoder>", try_from = "PerTask<LabelEncoder>")]
pub struct Encoders(PerTask<LabelEncoder>);

impl Encoders {
    /// Takes encoders that stand under the names of their tasks.
    ///
    /// # Errors
    /// There are none, one stands under another task's name, or their tasks make no schema.
    pub fn new(encoders: PerTask<LabelEncoder>) -> Result<Self, Error> {
        for (name, encoder) in encoders.iter() {
            if encoder.task.name != *name {
                let reason = format!("expected labels of {name}, found labels of {}", encoder.task.name);
                return Err(Error::BadEncoder { task: name.clone(), reason });
            }
        }
        Schema::new(encoders.values().map(|encoder| encoder.task.clone()).collect())?;
        Ok(Encoders(encoders))
    }

    /// The tasks, as they were fitted.
    pub fn schema(&self) -> Schema {
        let tasks = self.0.values().map(|encoder| encoder.task.clone()).collect();
        Schema::new(tasks).expect("checked when they were made")
    }

    /// Class counts, which size the model's heads.
    pub fn n_classes(&self) -> PerTask<usize> {
        self.0.each(|_, encoder| encoder.n_classes())
    }
}

impl Deref for Encoders {
    type Target = PerTask<LabelEncoder>;

    fn deref(&self) -> &PerTask<LabelEncoder> {
        &self.0
    }
}

impl From<Encoders> for PerTask<LabelEncoder> {
    fn from(encoders: Encoders) -> Self {
        encoders.0
    }
}

impl TryFrom<PerTask<LabelEncoder>> for Encoders {
    type Error = Error;

    fn try_from(encoders: PerTask<LabelEncoder>) -> Result<Self, Error> {
        Encoders::new(encoders)
    }
}

/// The encoder as it is saved, before it is checked. Version 0.1 knew neither columns nor orders: ages were ordered
/// where they were bins.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    task: TaskName,
    column: Option<String>,
    order: Option<Order>,
    labels: Vec<String>,
}

impl From<LabelEncoder> for Written {
    fn from(LabelEncoder { task, labels, .. }: LabelEncoder) -> Self {
        Written { task: task.name, column: Some(task.column), order: Some(task.order), labels }
    }
}

impl TryFrom<Written> for LabelEncoder {
    type Error = Error;

    fn try_from(Written { task: name, column, order, labels }: Written) -> Result<Self, Error> {
        let task = Task {
            column: column.unwrap_or_else(|| name.to_string()),
            order: order.unwrap_or_else(|| Order::of_version_0_1(&name)),
            name,
        };
        LabelEncoder::from_sorted(task, labels)
    }
}

impl Order {
    /// What version 0.1 took for ordered, where a file of it says nothing.
    pub fn of_version_0_1(name: &TaskName) -> Self {
        if *name == "age" { Order::Auto } else { Order::Nominal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(order: Order, labels: &[&str]) -> Result<LabelEncoder, String> {
        LabelEncoder::fit(Task::new("size").with_order(order), labels.iter().copied())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn an_order_is_by_lower_bounds_or_by_a_list() {
        let bins = ["3-9", "10-19", "more than 70"];
        assert_eq!(encoder(Order::Ordered, &bins).unwrap().ranks(), Some(&[1, 0, 2][..]));
        assert_eq!(encoder(Order::Auto, &bins).unwrap().display_order(), [1, 0, 2]);
        assert_eq!(encoder(Order::Nominal, &bins).unwrap().ranks(), None);
        assert_eq!(encoder(Order::Auto, &["S", "M"]).unwrap().ranks(), None);
        let list = Order::List(["S", "M", "L", "XL"].map(str::to_owned).to_vec());
        assert_eq!(encoder(list.clone(), &["XL", "M", "S"]).unwrap().ranks(), Some(&[1, 0, 2][..]));
        assert_eq!(
            encoder(list, &["XXL"]).unwrap_err(),
            "size encoder: expected labels that its order lists: S, M, L, XL, found \"XXL\""
        );
        let error = encoder(Order::Ordered, &["3-9", "3-5"]).unwrap_err();
        assert!(
            error.contains("expected bins with distinct lower bounds, found \"3-5\" and \"3-9\""),
            "{error}"
        );
    }

    #[test]
    fn encoders_of_version_0_1_are_read_and_those_of_another_task_are_not() {
        let json = r#"{"age": {"task": "age", "labels": ["10-19", "3-9"]}, "eyes": {"task": "eyes", "labels": ["1-2"]}}"#;
        let encoders: Encoders = serde_json::from_str(json).unwrap();
        assert_eq!(encoders["age"].ranks(), Some(&[1, 0][..]));
        assert_eq!(encoders["eyes"].ranks(), None);
        let again = serde_json::to_string(&encoders).unwrap();
        assert_eq!(serde_json::from_str::<Encoders>(&again).unwrap(), encoders);
        let error = serde_json::from_str::<Encoders>(&json.replace(r#""task": "eyes""#, r#""task": "nose""#));
        assert_eq!(
            error.unwrap_err().to_string(),
            "eyes encoder: expected labels of eyes, found labels of nose"
        );
    }
    #[test]
    fn saved_labels_are_checked_and_an_unseen_one_is_named() {
        let fit = |labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            LabelEncoder::from_sorted(Task::new("age"), labels).map_err(|error| error.to_string())
        };
        for (labels, message) in [
            (&["b", "a"][..], r#"age encoder: expected sorted labels, found "b" before "a""#),
            (&["a", "a"], r#"age encoder: expected distinct labels, found "a" twice"#),
            (&[], "age encoder: expected at least one label, found none"),
        ] {
            assert_eq!(fit(labels).unwrap_err(), message);
        }
        let encoder = fit(&["0-2", "3-9"]).unwrap();
        assert_eq!((encoder.encode("3-9"), encoder.decode(2), encoder.decode(UNKNOWN)), (Ok(1), None, None));
        assert_eq!(
            encoder.encode("70+").unwrap_err().to_string(),
            "age label \"70+\" is not in the training split: expected one of 0-2, 3-9"
        );
    }
}
