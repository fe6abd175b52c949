//! How far groups lie apart: in accuracy, in how often a class is predicted, and in how often rightly and wrongly.
//!
//! Definitions are Fairlearn's, between groups: the difference is the largest group's value minus the smallest's, the
//! ratio the smallest over the largest. A class is a yes-or-no question, one against the rest, and a task's figure is
//! that of its worst class. A rate that a group has no samples for is left out, as `MetricFrame` leaves out missing
//! values; Fairlearn's ready-made functions count it as zero instead, which would call a group unfair for its lack of
//! samples.
//!
//! Where a grouping contains the task's own attribute, parity and odds are left out: groups made by the true race have
//! different shares of every race by construction, and odds have nothing to compare. Accuracy by group is recall there.
//!
//! Where labels are not known, a group is as large in a task as it has known labels of it. A task in which fewer than
//! two groups can be compared has no figures.

use ff_core::json::null_as_nan;
use ff_core::{Encoders, PerTask, TaskName};
use serde::{Deserialize, Serialize};

use crate::groups::{MOST_GROUPS, Members, Relation, SMALL_GROUP, check_group_by};
use crate::{Bootstrap, ClassCounts, Grouping, Interval, Predictions, Result};

/// How far the groups of one grouping lie apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disparities {
    /// What makes the groups.
    pub by: Grouping,
    /// Which of them are compared.
    pub over: Over,
    /// How many they are.
    pub n_groups: usize,
    /// Samples that are in no group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_unknown: u64,
    /// Figures a task.
    pub tasks: PerTask<TaskDisparity>,
}

/// Which groups are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// All that have samples.
    All,
    /// Those that are not small; only given where some are.
    Large,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How far groups lie apart in one task. Where fewer than two groups can be compared the names are empty and the
/// figures NaN, null in files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDisparity {
    /// The group with the lowest accuracy.
    pub worst_group: String,
    /// Its accuracy.
    #[serde(deserialize_with = "null_as_nan")]
    pub worst_accuracy: f64,
    /// The group with the highest accuracy.
    pub best_group: String,
    /// Its accuracy.
    #[serde(deserialize_with = "null_as_nan")]
    pub best_accuracy: f64,
    /// Highest minus lowest accuracy.
    pub accuracy_difference: Estimate,
    /// Lowest over highest accuracy; `None` where all are zero.
    pub accuracy_ratio: Option<f64>,
    /// `None` where the task's own attribute makes the groups.
    pub parity_and_odds: Option<ParityAndOdds>,
}

/// Demographic parity and equalized odds of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParityAndOdds {
    /// The largest over the classes.
    pub demographic_parity_difference: Estimate,
    /// The smallest over the classes.
    pub demographic_parity_ratio: Option<f64>,
    /// The largest over the classes.
    pub equalized_odds_difference: Estimate,
    /// The smallest over the classes.
    pub equalized_odds_ratio: Option<f64>,
    /// Each class, by its id.
    pub classes: Vec<ClassDisparity>,
}

/// Demographic parity and equalized odds of one class against the rest; `None` where no group defines it, and for the
/// ratio of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassDisparity {
    /// Largest minus smallest selection rate (`demographic_parity_difference`).
    pub demographic_parity_difference: Option<f64>,
    /// Smallest over largest selection rate (`demographic_parity_ratio`).
    pub demographic_parity_ratio: Option<f64>,
    /// The larger of the differences in true- and false-positive rate (`equalized_odds_difference`).
    pub equalized_odds_difference: Option<f64>,
    /// The smaller of the ratios of true- and false-positive rates (`equalized_odds_ratio`).
    pub equalized_odds_ratio: Option<f64>,
}

/// A value and its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the samples as they are.
    #[serde(deserialize_with = "null_as_nan")]
    pub value: f64,
    /// Over resamples, where there were any.
    pub interval: Option<Interval>,
}

/// Compares the groups that `group_by` and its intersections make. Groupings with fewer than two groups are left out.
///
/// # Errors
/// `group_by` names no column, or makes too many groups.
pub fn disparities(
    predictions: &Predictions,
    encoders: &Encoders,
    group_by: &[String],
    bootstrap: &Bootstrap,
) -> Result<Vec<Disparities>> {
    check_group_by(predictions, encoders, group_by, MOST_GROUPS)?;
    let groupings = Grouping::with_intersections(group_by);
    let crossings: Vec<Crossing> =
        groupings.iter().map(|by| Crossing::new(predictions, encoders, by)).collect::<Result<_>>()?;
    let measure = |times: &[u32]| crossings.iter().flat_map(|c| c.measure(times)).collect::<Vec<_>>();
    let n = predictions.len();
    let measured = measure(&vec![1; n]);
    let statistics = |times: &[u32]| measure(times).iter().flat_map(Measured::statistics).collect();
    let intervals = bootstrap.intervals(n, statistics);

    let mut measured = measured.iter().zip(intervals.chunks_exact(Measured::N_STATISTICS));
    let mut found = Vec::new();
    for crossing in &crossings {
        for compared in &crossing.compared {
            let tasks = encoders.each(|_, _| {
                let (measured, intervals) = measured.next().expect("every comparison was measured");
                measured.describe(&crossing.members.names, intervals)
            });
            found.push(Disparities {
                by: crossing.by.clone(),
                over: compared.over,
                n_groups: compared.n_groups,
                n_unknown: crossing.members.n_unknown(),
                tasks,
            });
        }
    }
    Ok(found)
}

/// A grouping, with what is needed to count its groups anew for every resample.
pub(crate) struct Crossing {
    by: Grouping,
    members: Members,
    compared: Vec<Compared>,
    n_classes: PerTask<usize>,
    /// The samples that count, a task.
    cells: PerTask<Vec<Cell>>,
}

/// A choice of groups to compare.
#[derive(PartialEq)]
struct Compared {
    over: Over,
    n_groups: usize,
    /// For each group, whether it is chosen, a task.
    chosen: PerTask<Vec<bool>>,
}

/// A sample that is in a group and whose label is known.
struct Cell {
    /// Its place among the samples.
    sample: usize,
    /// The place of its label in the counts (groups, classes).
    label: usize,
    /// The place of its prediction there.
    prediction: usize,
}

impl Crossing {
    pub fn new(predictions: &Predictions, encoders: &Encoders, by: &Grouping) -> Result<Self> {
        let members = Members::new(predictions, encoders, by)?;
        let n_classes = encoders.n_classes();
        let cells = n_classes.each(|task, n_classes| {
            let known = predictions.known(task);
            let grouped =
                known.filter_map(|known| members.group_of[known.sample].map(|group| (group, known)));
            let place = |group: usize, class: u32| group * n_classes + class as usize;
            let cell = grouped.map(|(group, known)| Cell {
                sample: known.sample,
                label: place(group, known.target),
                prediction: place(group, known.predicted()),
            });
            cell.collect::<Vec<_>>()
        });
        let sizes = members.sizes();
        let known = cells.each(|task, cells| {
            let mut known = vec![0u64; sizes.len()];
            cells.iter().for_each(|cell| known[cell.label / n_classes[task]] += 1);
            known
        });
        let choose = |over, least| Compared {
            over,
            n_groups: sizes.iter().filter(|&&n| n >= least).count(),
            chosen: known.each(|_, known| known.iter().map(|&n| n >= least).collect()),
        };
        let mut compared = vec![choose(Over::All, 1), choose(Over::Large, SMALL_GROUP)];
        if compared[0].chosen == compared[1].chosen {
            compared.truncate(1);
        }
        compared.retain(|compared| compared.chosen.values().any(|chosen| at_least_two(chosen)));
        Ok(Self { by: by.clone(), members, compared, n_classes, cells })
    }

    /// Compares groups with sample `i` counted `times[i]` times: for each choice of groups, for each task.
    pub fn measure(&self, times: &[u32]) -> Vec<Measured> {
        let counts = self.cells.each(|task, _| self.count(task, times));
        let measure = |task: &TaskName, chosen: &[bool]| {
            if !at_least_two(chosen) {
                return Measured::UNDEFINED;
            }
            let groups = counts[task].chunks_exact(self.n_classes[task]).enumerate();
            let groups = groups.filter(|&(group, _)| chosen[group]);
            let groups = groups.map(|(group, classes)| GroupCounts::new(group, classes.to_vec()));
            // A resample may miss a group.
            let groups: Vec<_> = groups.filter(|group| group.n > 0).collect();
            Measured::new(&groups, self.by.relation_to(task))
        };
        let compared = self.compared.iter().flat_map(|compared| compared.chosen.iter());
        compared.map(|(task, chosen)| measure(task, chosen)).collect()
    }

    /// As [`Crossing::measure`], for the last choice of groups: the large ones where they are a choice of their own.
    /// `None` where there are not two groups to compare.
    pub fn measure_large(&self, times: &[u32]) -> Option<PerTask<Measured>> {
        let mut measured = self.measure(times);
        let first = measured.len().checked_sub(self.cells.len()).filter(|_| !measured.is_empty())?;
        Some(self.cells.names().cloned().zip(measured.drain(first..)).collect())
    }

    /// Counts (groups, classes).
    fn count(&self, task: &TaskName, times: &[u32]) -> Vec<ClassCounts> {
        let mut counts = vec![ClassCounts::default(); self.members.names.len() * self.n_classes[task]];
        for &Cell { sample, label, prediction } in &self.cells[task] {
            let times = u64::from(times[sample]);
            counts[label].positives += times;
            counts[prediction].selected += times;
            counts[label].hits += if label == prediction { times } else { 0 };
        }
        counts
    }
}

fn at_least_two(chosen: &[bool]) -> bool {
    chosen.iter().filter(|&&chosen| chosen).count() >= 2
}

/// The counts of one group in one task.
struct GroupCounts {
    group: usize,
    n: u64,
    accuracy: f64,
    classes: Vec<ClassCounts>,
}

impl GroupCounts {
    fn new(group: usize, mut classes: Vec<ClassCounts>) -> Self {
        let n = classes.iter().map(|c| c.positives).sum();
        classes.iter_mut().for_each(|class| class.n = n);
        let hits: u64 = classes.iter().map(|c| c.hits).sum();
        Self { group, n, accuracy: hits as f64 / n as f64, classes }
    }
}

/// One comparison in numbers; `None` where no group has samples.
pub(crate) struct Measured {
    /// Worst and best group, with their accuracies.
    accuracy: Option<[(usize, f64); 2]>,
    /// Disparities of each class; empty where they mean nothing.
    classes: Vec<ClassDisparity>,
}

impl Measured {
    const N_STATISTICS: usize = 3;
    const UNDEFINED: Self = Self { accuracy: None, classes: Vec::new() };

    fn new(groups: &[GroupCounts], relation: Relation) -> Self {
        let accuracies = || groups.iter().map(|group| (group.group, group.accuracy));
        let worst = accuracies().min_by(|a, b| a.1.total_cmp(&b.1));
        // The first of equals in both, so that the order of ties is that of the groups.
        let best = accuracies().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        let n_classes = match relation {
            Relation::Same => 0,
            Relation::Other => groups.first().map_or(0, |group| group.classes.len()),
        };
        let classes = (0..n_classes).map(|class| ClassDisparity::between(groups, class)).collect();
        Self { accuracy: worst.zip(best).map(|(worst, best)| [worst, best]), classes }
    }

    /// What gets an interval: accuracy, parity and odds difference.
    fn statistics(&self) -> [Option<f64>; Self::N_STATISTICS] {
        let accuracy = self.accuracy.map(|[worst, best]| best.1 - worst.1);
        [
            accuracy,
            self.largest(|c| c.demographic_parity_difference),
            self.largest(|c| c.equalized_odds_difference),
        ]
    }

    /// The lowest accuracy, and what gets an interval.
    pub fn gaps(&self) -> [Option<f64>; 4] {
        let [accuracy, parity, odds] = self.statistics();
        [self.accuracy.map(|[worst, _]| worst.1), accuracy, parity, odds]
    }

    fn largest(&self, figure: impl Fn(&ClassDisparity) -> Option<f64>) -> Option<f64> {
        self.classes.iter().filter_map(figure).max_by(f64::total_cmp)
    }

    fn smallest(&self, figure: impl Fn(&ClassDisparity) -> Option<f64>) -> Option<f64> {
        self.classes.iter().filter_map(figure).min_by(f64::total_cmp)
    }

    fn describe(&self, names: &[String], intervals: &[Option<Interval>]) -> TaskDisparity {
        let Some([(worst, worst_accuracy), (best, best_accuracy)]) = self.accuracy else {
            return TaskDisparity::UNDEFINED;
        };
        let statistics = self.statistics();
        let estimate = |i: usize| statistics[i].map(|value| Estimate { value, interval: intervals[i] });
        let parity_and_odds = estimate(1).zip(estimate(2)).map(|(parity, odds)| ParityAndOdds {
            demographic_parity_difference: parity,
            demographic_parity_ratio: self.smallest(|c| c.demographic_parity_ratio),
            equalized_odds_difference: odds,
            equalized_odds_ratio: self.smallest(|c| c.equalized_odds_ratio),
            classes: self.classes.clone(),
        });
        TaskDisparity {
            worst_group: names[worst].clone(),
            worst_accuracy,
            best_group: names[best].clone(),
            best_accuracy,
            accuracy_difference: estimate(0).expect("two accuracies have a difference"),
            accuracy_ratio: (best_accuracy > 0.0).then(|| worst_accuracy / best_accuracy),
            parity_and_odds,
        }
    }
}

impl TaskDisparity {
    /// Without groups to compare.
    const UNDEFINED: Self = Self {
        worst_group: String::new(),
        worst_accuracy: f64::NAN,
        best_group: String::new(),
        best_accuracy: f64::NAN,
        accuracy_difference: Estimate { value: f64::NAN, interval: None },
        accuracy_ratio: None,
        parity_and_odds: None,
    };
}

impl ClassDisparity {
    fn between(groups: &[GroupCounts], class: usize) -> Self {
        let spread = |rate: fn(&ClassCounts) -> Option<f64>| {
            Spread::of(groups.iter().filter_map(|group| rate(&group.classes[class])))
        };
        let selection = spread(ClassCounts::selection_rate);
        let odds = [spread(ClassCounts::true_positive_rate), spread(ClassCounts::false_positive_rate)];
        let odds = || odds.iter().flatten();
        Self {
            demographic_parity_difference: selection.map(|s| s.difference()),
            demographic_parity_ratio: selection.and_then(|s| s.ratio()),
            equalized_odds_difference: odds().map(Spread::difference).max_by(f64::total_cmp),
            equalized_odds_ratio: odds().filter_map(Spread::ratio).min_by(f64::total_cmp),
        }
    }
}

/// The smallest and the largest of some rates.
#[derive(Clone, Copy)]
struct Spread {
    min: f64,
    max: f64,
}

impl Spread {
    /// `None` where there are no rates.
    fn of(rates: impl Iterator<Item = f64>) -> Option<Self> {
        rates.fold(None, |spread: Option<Self>, rate| {
            let Self { min, max } = spread.unwrap_or(Self { min: rate, max: rate });
            Some(Self { min: min.min(rate), max: max.max(rate) })
        })
    }

    fn difference(&self) -> f64 {
        self.max - self.min
    }

    /// `None` where all rates are zero.
    fn ratio(&self) -> Option<f64> {
        (self.max > 0.0).then(|| self.min / self.max)
    }
}
