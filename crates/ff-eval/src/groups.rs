//! Groups of samples by their labels, and the figures of each.
//!
//! A grouping is one attribute or several crossed: tasks by their targets, or further columns. Its groups are all
//! combinations of labels, whether they have samples or not; each sample is in exactly one of them, or in none where
//! one of its labels is not known.

use std::fmt;
use std::str::FromStr;

use ff_core::text::shortened;
use ff_core::{Encoders, PerTask, TaskName};
use serde::{Deserialize, Serialize};

use crate::attribute::Column;
use crate::predictions::Known;
use crate::{ConfusionMatrix, Error, Interval, Predictions, Rates, Tally, TaskMetrics, wilson};

/// Groups with fewer samples are marked as small: a share of 30 has a 95 % interval up to 35 points wide.
pub const SMALL_GROUP: u64 = 30;

/// Groups of all groupings together: nobody reads more, and an identifier taken for an attribute makes millions.
pub(crate) const MOST_GROUPS: usize = 20_000;

/// The attributes whose labels make groups; as text `race`, or `race,gender` for the crossing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Grouping(Vec<String>);

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
    ///
    /// # Panics
    /// There are so many of them that nobody could count their intersections: more than 24.
    pub fn with_intersections(attributes: &[String]) -> Vec<Self> {
        let mut distinct: Vec<&String> = Vec::new();
        for name in attributes {
            if !distinct.contains(&name) {
                distinct.push(name);
            }
        }
        assert!(distinct.len() <= 24, "expected at most 24 columns to group by, found {}", distinct.len());
        let members = |bits: usize| distinct.iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1);
        let subsets =
            (1..1usize << distinct.len()).map(|bits| members(bits).map(|(_, &name)| name.clone()).collect());
        let mut groupings: Vec<Self> = subsets.map(Self).collect();
        groupings.sort_by_key(|grouping| grouping.0.len());
        groupings
    }

    /// The attributes' names.
    pub fn attributes(&self) -> &[String] {
        &self.0
    }

    /// How these groups stand to a task.
    pub(crate) fn relation_to(&self, task: &TaskName) -> Relation {
        if self.0.iter().any(|name| *task == name.as_str()) { Relation::Same } else { Relation::Other }
    }
}

/// How groups stand to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// They are made by the task's own labels, alone or crossed with others.
    Same,
    /// They are made by other attributes.
    Other,
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join(","))
    }
}

impl FromStr for Grouping {
    type Err = String;

    /// Names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if let Some(i) = (0..names.len()).find(|&i| names[i].is_empty() || names[..i].contains(&names[i])) {
            let found = shortened(&names[i]);
            return Err(format!(
                "expected distinct columns with commas between them, found {found:?} in {text:?}"
            ));
        }
        Ok(Self(names))
    }
}

impl From<Grouping> for String {
    fn from(grouping: Grouping) -> Self {
        grouping.to_string()
    }
}

impl TryFrom<String> for Grouping {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The groups of a grouping, and each sample's place in one of them.
pub(crate) struct Members {
    /// The groups' names.
    pub names: Vec<String>,
    /// Each sample's group, (n,); `None` where one of its labels is not known.
    pub group_of: Vec<Option<usize>>,
}

impl Members {
    /// Sorts samples into groups; groups are in the display order of their labels, the first attribute slowest.
    pub fn new(predictions: &Predictions, encoders: &Encoders, by: &Grouping) -> crate::Result<Self> {
        let mut members = Self { names: vec![String::new()], group_of: vec![Some(0); predictions.len()] };
        for attribute in by.attributes() {
            let Column { labels, display_order: order, values } =
                Column::find(predictions, encoders, attribute)?;
            let name = |stem: &String, id: usize| match stem.is_empty() {
                true => labels[id].clone(),
                false => format!("{stem} / {}", labels[id]),
            };
            let names = members.names.iter();
            members.names = names.flat_map(|stem| order.iter().map(move |&id| name(stem, id))).collect();
            let mut place = vec![0; order.len()];
            order.iter().enumerate().for_each(|(i, &id)| place[id] = i);
            for (group, &value) in members.group_of.iter_mut().zip(values) {
                // UNKNOWN has no place.
                let place = place.get(value as usize);
                *group = group.zip(place).map(|(group, place)| group * order.len() + place);
            }
        }
        Ok(members)
    }

    /// Samples in each group.
    pub fn sizes(&self) -> Vec<u64> {
        let mut sizes = vec![0; self.names.len()];
        self.group_of.iter().flatten().for_each(|&group| sizes[group] += 1);
        sizes
    }

    /// Samples that are in none.
    pub fn n_unknown(&self) -> u64 {
        self.group_of.iter().filter(|group| group.is_none()).count() as u64
    }
}

/// Whether `group_by` names columns that there are, whose intersections make no more than `most` groups.
pub(crate) fn check_group_by(
    predictions: &Predictions,
    encoders: &Encoders,
    group_by: &[String],
    most: usize,
) -> crate::Result<()> {
    let mut distinct = group_by.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    // Of sets of labels, one each or none, all but the empty one is a group.
    let mut n_groups = 1usize;
    for name in &distinct {
        // Whoever reads a grouping's text takes commas for what stands between names.
        let commas = name.contains(',') || name.trim() != name;
        let known = || Column::find(predictions, encoders, name);
        if commas && known().is_ok() {
            return Err(Error::NoSuchColumn {
                known: vec!["one without commas and blanks around it".to_owned()],
                found: name.clone(),
            });
        }
        n_groups = n_groups.saturating_mul(known()?.labels.len().max(1) + 1);
    }
    if n_groups - 1 > most {
        return Err(Error::TooManyGroups { most, found: n_groups - 1, by: group_by.join(",") });
    }
    Ok(())
}

/// The figures of every group of a grouping.
pub(crate) fn group_metrics(
    predictions: &Predictions,
    encoders: &Encoders,
    by: &Grouping,
    members: &Members,
) -> Vec<GroupMetrics> {
    let tallies = encoders.each(|task, _| {
        let mut tallies = vec![predictions.empty_tally(encoders, task); members.names.len()];
        for Known { sample, row, target } in predictions.known(task) {
            if let Some(group) = members.group_of[sample] {
                tallies[group].add(row, target);
            }
        }
        tallies
    });
    let group = |(i, (name, n)): (usize, (&String, u64))| {
        let tasks = tallies.each(|_, tallies| GroupTask::new(&tallies[i]));
        GroupMetrics { by: by.clone(), group: name.clone(), n, small: n < SMALL_GROUP, tasks }
    };
    members.names.iter().zip(members.sizes()).enumerate().map(group).collect()
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
