//! What figures must be for a check to pass: `age.accuracy>=0.55`.
//!
//! ```text
//! [TASK.]FIGURE[COLUMN,COLUMN][.diff][@lower | @upper] >= | <= | > | < NUMBER
//! ```
//!
//! `accuracy` alone is the mean over the tasks. Figures between groups take the columns that make the groups, in any
//! order, and compare the large groups only. `.diff` is the second side's less the first's of a [`Comparison`], and
//! only there. `@lower` and `@upper` stand for the ends of the 95 % interval: Wilson's for an accuracy, the bootstrap's
//! for gaps and differences. A figure that is not defined, or has no interval where one is asked for, does not meet its
//! requirement. The figures are [`Figure`]'s.

mod junit;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ff_core::TaskName;
use ff_core::text::{either, list};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub use junit::junit;

use crate::{
    Comparison, Error, EvaluationRecord, Figure, Grouping, Interval, Over, Result, SMALL_GROUP, wilson,
};

/// A figure and its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    text: String,
    figure: Figure,
    task: Option<TaskName>,
    by: Option<Grouping>,
    of: Subject,
    end: Option<End>,
    relation: Relation,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Evaluation,
    Difference,
}

/// An end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Lower,
    Upper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
}

/// Whether a requirement is met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The requirement.
    pub text: String,
    /// The figure's value; `None` where it is not defined.
    pub value: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Samples that it is computed from.
    pub n: u64,
    /// How far the value, or the end asked for, is on the right side of the bound; negative on the wrong one.
    pub margin: Option<f64>,
    /// Whether the requirement is met.
    pub met: bool,
    /// Why there is nothing to compare, where that is so.
    pub why: Option<String>,
}

/// A figure as it was found.
struct Found {
    value: f64,
    interval: Option<Interval>,
    n: u64,
    /// Why there is no value, or no interval.
    why: Option<String>,
}

impl Requirement {
    /// Reads `[require]` of a TOML, a figure a key with what it must be: `"age.accuracy" = ">=0.55"`, or a list of
    /// that. What a [`SchemaFile`](crate::SchemaFile) holds may stand beside it.
    ///
    /// # Errors
    /// The file cannot be read, or a requirement cannot.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            require: BTreeMap<String, Bounds>,
            #[serde(default, rename = "tasks")]
            _tasks: IgnoredAny,
            #[serde(default, rename = "labels")]
            _labels: IgnoredAny,
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a text such as \">=0.5\", or a list of them")]
        enum Bounds {
            One(String),
            Several(Vec<String>),
        }
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        let Written { require, .. } =
            toml::from_str(&fs_err::read_to_string(path)?).map_err(|error| bad(error.to_string()))?;
        let mut requirements = Vec::new();
        for (figure, bounds) in require {
            let bounds = match bounds {
                Bounds::One(bound) => vec![bound],
                Bounds::Several(bounds) => bounds,
            };
            for bound in bounds {
                let requirement: Result<Self> = format!("{figure}{bound}").parse();
                requirements.push(requirement.map_err(|error| bad(error.to_string()))?);
            }
        }
        Ok(requirements)
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether an evaluation of these tasks, by these columns and their intersections, can be checked: to be asked
    /// before there is one.
    ///
    /// # Errors
    /// It names another task or column, or a difference.
    pub fn can_check<'t>(
        &self,
        tasks: impl IntoIterator<Item = &'t TaskName>,
        group_by: &[String],
    ) -> Result<()> {
        self.is_of(Subject::Evaluation, tasks)?;
        self.is_by(group_by)
    }

    /// As [`Requirement::can_check`], of a comparison.
    ///
    /// # Errors
    /// It names another task or column, or no difference.
    pub fn can_check_comparison<'t>(
        &self,
        tasks: impl IntoIterator<Item = &'t TaskName>,
        group_by: &[String],
    ) -> Result<()> {
        self.is_of(Subject::Difference, tasks)?;
        self.is_by(group_by)
    }

    /// Checks it against an evaluation.
    ///
    /// # Errors
    /// It names a task or grouping that was not evaluated, or a difference.
    pub fn check(&self, record: &EvaluationRecord) -> Result<Outcome> {
        self.is_of(Subject::Evaluation, record.evaluation.labels.names())?;
        let found = match &self.by {
            Some(by) => self.between_groups(record, by)?,
            None => self.of_samples(record),
        };
        Ok(self.judge(found))
    }

    /// Checks it against a comparison.
    ///
    /// # Errors
    /// It names a task or grouping that was not compared, or no difference.
    pub fn check_comparison(&self, comparison: &Comparison) -> Result<Outcome> {
        self.is_of(Subject::Difference, &comparison.tasks)?;
        let rows = || comparison.differences.iter().filter(|row| row.group.is_none());
        let same_groups = |by: Option<&Grouping>| match (by, &self.by) {
            (Some(a), Some(b)) => same_columns(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let same = |row: &&crate::Difference| {
            row.figure == self.figure && row.task == self.task && same_groups(row.by.as_ref())
        };
        let Some(row) = rows().find(same) else {
            let by: Vec<&Grouping> = rows().filter_map(|row| row.by.as_ref()).collect();
            return Err(self.no_such_grouping(by.into_iter()));
        };
        let undefined = || format!("{} is not defined here", self.figure);
        Ok(self.judge(Found {
            value: row.difference,
            interval: row.low.zip(row.high).map(|(low, high)| Interval { low, high }),
            n: row.n,
            why: row.difference.is_nan().then(undefined),
        }))
    }

    /// Whether it is of an evaluation or of a difference, as expected, and of a task that there is.
    fn is_of<'t>(&self, expected: Subject, tasks: impl IntoIterator<Item = &'t TaskName>) -> Result<()> {
        match (expected, self.of) {
            (Subject::Evaluation, Subject::Difference) => {
                let reason = "expected a figure of one evaluation, found a difference of two";
                return Err(self.bad(reason.to_owned()));
            }
            (Subject::Difference, Subject::Evaluation) => {
                let figure = self.figure;
                let reason = format!("expected a difference such as {figure}.diff, found a figure of one");
                return Err(self.bad(reason));
            }
            _ => {}
        }
        let Some(task) = &self.task else { return Ok(()) };
        let known: Vec<String> = tasks.into_iter().map(TaskName::to_string).collect();
        match known.iter().any(|known| *task == known.as_str()) {
            true => Ok(()),
            false => Err(self.bad(format!("expected a task: {}, found {task:?}", either(&known)))),
        }
    }

    /// Whether its groups are made by these columns.
    fn is_by(&self, group_by: &[String]) -> Result<()> {
        let mut by = self.by.iter().flat_map(Grouping::attributes);
        match by.find(|name| !group_by.contains(name)) {
            None => Ok(()),
            Some(other) => {
                let known = if group_by.is_empty() { "none".to_owned() } else { list(group_by) };
                Err(self.bad(format!("expected columns to group by: {known}, found {other:?}")))
            }
        }
    }

    fn no_such_grouping<'g>(&self, known: impl Iterator<Item = &'g Grouping>) -> Error {
        let mut names: Vec<String> = known.map(ToString::to_string).collect();
        names.dedup();
        let by = self.by.as_ref().map(ToString::to_string).unwrap_or_default();
        self.bad(format!("expected groups that were evaluated: by {}, found [{by}]", list(&names)))
    }

    /// A figure over all samples.
    fn of_samples(&self, record: &EvaluationRecord) -> Found {
        let evaluation = &record.evaluation;
        let Some(task) = &self.task else {
            let sum: f64 = evaluation.tasks.values().map(|metrics| metrics.accuracy).sum();
            let value = sum / evaluation.tasks.len() as f64;
            let why = match value.is_nan() {
                true => "a task has no known labels",
                false => "the mean over tasks has no interval",
            };
            return Found { value, interval: None, n: evaluation.n as u64, why: Some(why.to_owned()) };
        };
        let (confusion, value) = (&evaluation.confusion[task], self.figure.of(&evaluation.tasks[task]));
        let (n, is_accuracy) = (confusion.n(), self.figure == Figure::Accuracy);
        let why = match value {
            _ if n == 0 => Some(format!("no label of {task} is known")),
            None if self.figure == Figure::OneOff => Some(format!("the classes of {task} have no order")),
            None => Some(format!("{} needs probabilities", self.figure)),
            Some(_) if is_accuracy => None,
            Some(_) => Some(format!("{} of one evaluation has no interval", self.figure)),
        };
        let interval = if is_accuracy { wilson(confusion.n_correct(), n) } else { None };
        Found { value: value.unwrap_or(f64::NAN), interval, n, why }
    }

    /// A figure between the large groups of a grouping.
    fn between_groups(&self, record: &EvaluationRecord, by: &Grouping) -> Result<Found> {
        let task = self.task.as_ref().expect("checked when it was parsed");
        let all = &record.evaluation.groups;
        let groups: Vec<_> = all.iter().filter(|group| same_columns(&group.by, by)).collect();
        if groups.is_empty() {
            return Err(self.no_such_grouping(all.iter().map(|group| &group.by)));
        }
        let sizes = || groups.iter().map(|group| group.tasks[task].confusion.n());
        let n = sizes().filter(|&n| n >= SMALL_GROUP).sum();
        let undefined = |why: String| Ok(Found { value: f64::NAN, interval: None, n, why: Some(why) });
        if sizes().filter(|&n| n >= SMALL_GROUP).count() < 2 {
            return undefined(format!("fewer than two groups have {SMALL_GROUP} samples or more"));
        }
        let compared = record.disparities.iter().filter(|found| same_columns(&found.by, by));
        // Where no group is small the comparison of all is that of the large ones.
        let Some(compared) = compared.max_by_key(|found| found.over == Over::Large) else {
            return undefined("there are not two groups to compare".to_owned());
        };
        let found = &compared.tasks[task];
        let parity = found.parity_and_odds.as_ref();
        let estimate = match self.figure {
            Figure::WorstAccuracy => {
                let worst = groups.iter().find(|group| group.group == found.worst_group);
                let interval = worst.and_then(|group| group.tasks[task].accuracy_interval);
                return Ok(Found { value: found.worst_accuracy, interval, n, why: None });
            }
            Figure::DemographicParity => parity.map(|parity| parity.demographic_parity_difference),
            Figure::EqualizedOdds => parity.map(|parity| parity.equalized_odds_difference),
            _ => Some(found.accuracy_difference),
        };
        match estimate {
            Some(estimate) => {
                let why = estimate.interval.is_none().then(|| "there were no resamples".to_owned());
                Ok(Found { value: estimate.value, interval: estimate.interval, n, why })
            }
            None => undefined(format!("groups by {task} itself differ in what {task} is predicted")),
        }
    }

    fn judge(&self, Found { value, interval, n, why }: Found) -> Outcome {
        let compared = match self.end {
            None => Some(value),
            Some(End::Lower) => interval.map(|interval| interval.low),
            Some(End::Upper) => interval.map(|interval| interval.high),
        };
        let compared = compared.filter(|compared| !compared.is_nan() && !value.is_nan());
        let (margin, met) = match compared {
            None => (None, false),
            Some(x) => {
                let above = x - self.bound;
                match self.relation {
                    Relation::AtLeast => (Some(above), x >= self.bound),
                    Relation::Above => (Some(above), x > self.bound),
                    Relation::AtMost => (Some(-above), x <= self.bound),
                    Relation::Below => (Some(-above), x < self.bound),
                }
            }
        };
        let why = compared.is_none().then(|| why.unwrap_or_else(|| "there is no interval".to_owned()));
        Outcome {
            text: self.text.clone(),
            value: (!value.is_nan()).then_some(value),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            n,
            margin,
            met,
            why,
        }
    }

    fn bad(&self, reason: String) -> Error {
        Error::BadRequirement { text: self.text.clone(), reason }
    }
}

/// Whether two groupings are of the same columns, in whatever order.
fn same_columns(a: &Grouping, b: &Grouping) -> bool {
    let (a, b) = (a.attributes(), b.attributes());
    a.len() == b.len() && a.iter().all(|name| b.contains(name))
}

impl fmt::Display for Outcome {
    /// One line: `met: age.accuracy>=0.55, 0.5671 in 0.5600..0.5742, n = 10954, margin +0.0171`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.met { "met: " } else { "not met: " })?;
        f.write_str(&self.text)?;
        match self.value {
            Some(value) => write!(f, ", {value:.4}")?,
            None => f.write_str(", undefined")?,
        }
        if let (Some(low), Some(high)) = (self.low, self.high) {
            write!(f, " in {low:.4}..{high:.4}")?;
        }
        write!(f, ", n = {}", self.n)?;
        if let Some(margin) = self.margin {
            write!(f, ", margin {margin:+.4}")?;
        }
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}
