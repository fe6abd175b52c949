//! Two sets of predictions of the same samples: how far every figure differs, and whether that is more than chance.
//!
//! Intervals are paired: a resample draws samples, and both sets are judged on the same ones, so what is hard for both
//! cancels out (Efron and Tibshirani, "An introduction to the bootstrap", 1993). McNemar's test asks of the samples
//! that just one of both gets right whether they fall evenly ("Note on the sampling error of the difference between
//! correlated proportions or percentages", 1947). Neither is corrected for how many are read: of twenty rows without
//! any difference one has an interval without zero.
//!
//! Differences are the second less the first. Gaps between groups are those of the large groups where some are small.

mod align;
mod mcnemar;
mod measure;

use std::collections::HashMap;
use std::path::Path;

use ff_core::files::write_atomic;
use ff_core::json::null_as_nan;
use ff_core::{Encoders, TaskName};
use serde::{Deserialize, Serialize};

pub use mcnemar::McNemar;

use crate::groups::{MOST_GROUPS, check_group_by};
use crate::{Bootstrap, Error, Figure, Grouping, Interval, NotGrouped, Predictions, Result, Unmatched};
use measure::{Measure, Row};

/// Figures of groups in all resamples together: 800 MB of them.
const MOST_RESAMPLED: usize = 50_000_000;

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What it predicts.
    pub predictions: &'a Predictions,
    /// The labels behind the class ids.
    pub encoders: &'a Encoders,
}

/// What was found out about two sets of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the first is called.
    pub a: String,
    /// What the second is called.
    pub b: String,
    /// Samples that both have.
    pub n: usize,
    /// Those that only the first has.
    pub only_a: Unmatched,
    /// Those that only the second has.
    pub only_b: Unmatched,
    /// The tasks that both have.
    pub tasks: Vec<TaskName>,
    /// Tasks that one of both lacks.
    pub left_out: Vec<TaskName>,
    /// Groupings that leave samples out.
    pub not_grouped: Vec<NotGrouped>,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
    /// First over all samples, then of every group, then the gaps of every grouping.
    pub differences: Vec<Difference>,
    /// One of every task, over all samples and in every group.
    pub mcnemar: Vec<McNemar>,
}

/// One figure of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What is compared.
    pub figure: Figure,
    /// In which task; `None` for the mean over the tasks.
    pub task: Option<TaskName>,
    /// What makes the groups, where it is about groups.
    pub by: Option<Grouping>,
    /// In which group; `None` for all samples and for gaps between groups.
    pub group: Option<String>,
    /// The first's; NaN, null in files, where it is not defined.
    #[serde(deserialize_with = "null_as_nan")]
    pub a: f64,
    /// The second's; NaN likewise.
    #[serde(deserialize_with = "null_as_nan")]
    pub b: f64,
    /// The second's less the first's; NaN likewise.
    #[serde(deserialize_with = "null_as_nan")]
    pub difference: f64,
    /// Lower end of its 95 % interval, where there were resamples.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Of accuracies: McNemar's exact test.
    pub p: Option<f64>,
    /// Samples that it is computed from.
    pub n: u64,
}

/// Compares two sets of predictions, over all samples and by the groups that `group_by` and its intersections make.
///
/// Samples go together by their files, as [`input`](crate::input) says; of files that occur several times the first
/// with the first. Classes are the labels of both.
///
/// # Errors
/// They have no task or no sample in common, or a sample is labelled differently; `group_by` names no column, or makes too
/// many groups; no label is known.
pub fn compare(a: Side, b: Side, group_by: &[String], bootstrap: &Bootstrap) -> Result<Comparison> {
    let aligned = align::align(&a, &b)?;
    let [first, second] = &aligned.predictions;
    let encoders = &aligned.encoders;
    let n_of_group = encoders.len() * Figure::OF_SAMPLES.len() * bootstrap.resamples.max(1) as usize;
    check_group_by(first, encoders, group_by, MOST_GROUPS.min(MOST_RESAMPLED / n_of_group))?;
    let measure = Measure::new([first, second], encoders, group_by)?;

    let n = first.len();
    let as_they_are = vec![1; n];
    let mut rows = Vec::new();
    measure.each_row(&as_they_are, |row| rows.push(row));
    if rows.iter().all(|row| row.n == 0) {
        return Err(Error::NoSamples { found: format!("{n} without any label") });
    }
    let differences = |times: &[u32]| {
        let mut differences = Vec::with_capacity(rows.len());
        measure.each_row(times, |row| differences.push(row.difference()));
        differences
    };
    let intervals = bootstrap.intervals(n, differences);

    let mcnemar = measure.mcnemar();
    let tested: HashMap<_, f64> = mcnemar
        .iter()
        .map(|test| ((Some(&test.task), test.by.as_ref(), test.group.as_ref()), test.exact_p))
        .collect();
    let difference = |(row, interval): (&Row, Option<Interval>)| {
        let interval = interval.filter(|_| row.difference().is_some());
        let p = || tested.get(&(row.task, row.by, row.group)).copied();
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        Difference {
            figure: row.figure,
            task: row.task.cloned(),
            by: row.by.cloned(),
            group: row.group.cloned(),
            a: number(row.values[0]),
            b: number(row.values[1]),
            difference: number(row.difference()),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            p: if row.figure == Figure::Accuracy { p() } else { None },
            n: row.n,
        }
    };
    // A group without samples, or a figure that a task does not have, is a row of nothing.
    let worth_showing = |row: &Row| row.group.is_none() || row.difference().is_some();
    let found = rows.iter().zip(intervals).filter(|(row, _)| worth_showing(row)).map(difference).collect();
    Ok(Comparison {
        a: a.name.to_owned(),
        b: b.name.to_owned(),
        n,
        only_a: aligned.only_a,
        only_b: aligned.only_b,
        tasks: encoders.names().cloned().collect(),
        left_out: aligned.left_out,
        not_grouped: measure.not_grouped(),
        bootstrap: *bootstrap,
        differences: found,
        mcnemar,
    })
}

impl Comparison {
    /// Reads one.
    ///
    /// # Errors
    /// The file cannot be read or is no comparison.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        serde_json::from_slice(&fs_err::read(path)?).map_err(|e| bad(e.to_string()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("a comparison is JSON");
        Ok(write_atomic(path, json.as_bytes())?)
    }
}
