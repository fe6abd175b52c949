//! Groups of samples by their labels, and the figures of each.
//!
//! A grouping is one attribute or several crossed. Its groups are all combinations of labels, whether they have
//! samples or not; each sample is in exactly one of them.

use std::fmt;
use std::str::FromStr;

use ff_data::{Encoders, PerTask, Task};
use serde::{Deserialize, Serialize};

use super::rates::{Interval, Rates, wilson};
use super::{Predictions, display_order, empty_tally};
use crate::metrics::{ConfusionMatrix, Tally, TaskMetrics};

/// Groups with fewer samples are marked as small: a share of 30 has a 95 % interval up to 35 points wide.
pub const SMALL_GROUP: u64 = 30;

/// The attributes whose labels make groups; as text `race`, or `race,gender` for the crossing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Grouping(Vec<Task>);

/// The figures of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupMetrics {
    /// What makes the group.
    pub by: Grouping,
    /// The group's labels in the grouping's order, as `Indian` or `Indian / Female`.
    pub group: String,
    /// Samples in it.
    pub n: u64,
    /// Whether it has fewer than [`SMALL_GROUP`].
    pub small: bool,
    /// Figures a task, over the group's samples.
    pub tasks: PerTask<GroupTask>,
}

/// One task's figures in one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct GroupTask {
    /// The usual figures; `None` where the group has no samples.
    pub metrics: Option<TaskMetrics>,
    /// 95 % Wilson interval of the accuracy; `None` without samples.
    pub accuracy_interval: Option<Interval>,
    /// Rates of every class, one against the rest.
    pub rates: Rates,
    /// What was taken for what.
    pub confusion: ConfusionMatrix,
}

/// As files have it: the figures beside the others, each null where the group has no samples.
#[derive(Serialize, Deserialize)]
struct Written {
    accuracy: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_off: Option<f64>,
    balanced_accuracy: Option<f64>,
    macro_f1: Option<f64>,
    ece: Option<f64>,
    nll: Option<f64>,
    accuracy_interval: Option<Interval>,
    #[serde(flatten)]
    rates: Rates,
    confusion: ConfusionMatrix,
}

impl From<GroupTask> for Written {
    fn from(group: GroupTask) -> Self {
        let GroupTask { metrics, accuracy_interval, rates, confusion } = group;
        let figure = |figure: fn(&TaskMetrics) -> f64| metrics.as_ref().map(figure);
        Self {
            accuracy: figure(|m| m.accuracy),
            one_off: metrics.as_ref().and_then(|m| m.one_off),
            balanced_accuracy: figure(|m| m.balanced_accuracy),
            macro_f1: figure(|m| m.macro_f1),
            ece: figure(|m| m.ece),
            nll: figure(|m| m.nll),
            accuracy_interval,
            rates,
            confusion,
        }
    }
}

impl From<Written> for GroupTask {
    fn from(written: Written) -> Self {
        let Written {
            accuracy,
            one_off,
            balanced_accuracy,
            macro_f1,
            ece,
            nll,
            accuracy_interval,
            rates,
            confusion,
        } = written;
        let number = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
        let metrics = TaskMetrics {
            accuracy: number(accuracy),
            one_off,
            balanced_accuracy: number(balanced_accuracy),
            macro_f1: number(macro_f1),
            ece: number(ece),
            nll: number(nll),
        };
        // Older versions wrote zeros for a group without samples.
        Self { metrics: (confusion.n() > 0).then_some(metrics), accuracy_interval, rates, confusion }
    }
}

impl Grouping {
    /// These attributes and all their intersections: first those of one attribute, then of two, then of three.
    pub fn with_intersections(attributes: &[Task]) -> Vec<Self> {
        let mut distinct: Vec<Task> = Vec::new();
        for &task in attributes {
            if !distinct.contains(&task) {
                distinct.push(task);
            }
        }
        let members = |bits: usize| distinct.iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1);
        let subsets =
            (1..1usize << distinct.len()).map(|bits| members(bits).map(|(_, &task)| task).collect());
        let mut groupings: Vec<Self> = subsets.map(Self).collect();
        groupings.sort_by_key(|grouping| grouping.0.len());
        groupings
    }

    /// The attributes.
    pub fn attributes(&self) -> &[Task] {
        &self.0
    }

    /// How these groups stand to a task.
    pub(super) fn relation_to(&self, task: Task) -> Relation {
        if self.0.contains(&task) { Relation::Same } else { Relation::Other }
    }
}

/// How groups stand to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// They are made by the task's own labels, alone or crossed with others.
    Same,
    /// They are made by other attributes.
    Other,
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.iter().map(|task| task.name()).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Grouping {
    type Err = ff_data::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Grouping> for String {
    fn from(grouping: Grouping) -> Self {
        grouping.to_string()
    }
}

impl TryFrom<String> for Grouping {
    type Error = ff_data::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The groups of a grouping, and each sample's place in one of them.
pub(super) struct Members {
    /// The groups' names.
    pub names: Vec<String>,
    /// Each sample's group, (n,).
    pub group_of: Vec<usize>,
}

impl Members {
    /// Sorts samples into groups; groups are in the display order of their labels, the first attribute slowest.
    pub fn new(predictions: &Predictions, encoders: &Encoders, by: &Grouping) -> Self {
        let mut members = Self { names: vec![String::new()], group_of: vec![0; predictions.len()] };
        for &attribute in by.attributes() {
            let order = display_order(encoders, attribute);
            let labels = encoders[attribute].labels();
            let name = |stem: &String, id: usize| match stem.is_empty() {
                true => labels[id].clone(),
                false => format!("{stem} / {}", labels[id]),
            };
            let names = members.names.iter();
            members.names = names.flat_map(|stem| order.iter().map(move |&id| name(stem, id))).collect();
            let mut place = vec![0; order.len()];
            order.iter().enumerate().for_each(|(i, &id)| place[id] = i);
            for (group, &target) in members.group_of.iter_mut().zip(&predictions.targets[attribute]) {
                *group = *group * order.len() + place[target as usize];
            }
        }
        members
    }

    /// Samples in each group.
    pub fn sizes(&self) -> Vec<u64> {
        let mut sizes = vec![0; self.names.len()];
        self.group_of.iter().for_each(|&group| sizes[group] += 1);
        sizes
    }
}

/// The figures of every group of a grouping.
pub(super) fn group_metrics(
    predictions: &Predictions,
    encoders: &Encoders,
    by: &Grouping,
) -> Vec<GroupMetrics> {
    let members = Members::new(predictions, encoders, by);
    let mut tallies = PerTask::from_fn(|task| vec![empty_tally(encoders, task); members.names.len()]);
    for (task, tallies) in tallies.iter_mut() {
        for ((row, target), &group) in predictions.rows(task).zip(&members.group_of) {
            tallies[group].add(row, target);
        }
    }
    let group = |(i, (name, n)): (usize, (String, u64))| {
        let tasks = PerTask::from_fn(|task| GroupTask::new(&tallies[task][i]));
        GroupMetrics { by: by.clone(), group: name, n, small: n < SMALL_GROUP, tasks }
    };
    let sizes = members.sizes();
    members.names.into_iter().zip(sizes).enumerate().map(group).collect()
}

impl GroupTask {
    fn new(tally: &Tally) -> Self {
        let confusion = tally.confusion();
        Self {
            metrics: tally.metrics(),
            accuracy_interval: wilson(confusion.n_correct(), confusion.n()),
            rates: Rates::of_confusion(confusion),
            confusion: confusion.clone(),
        }
    }
}
