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

use ff_data::{Encoders, PerTask, Task};
use serde::{Deserialize, Serialize};

use super::groups::{Grouping, Members, Relation, SMALL_GROUP};
use super::rates::{ClassCounts, Interval};
use super::{Bootstrap, Predictions};

/// How far the groups of one grouping lie apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disparities {
    /// What makes the groups.
    pub by: Grouping,
    /// Which of them are compared.
    pub over: Over,
    /// How many they are.
    pub n_groups: usize,
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

/// How far groups lie apart in one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDisparity {
    /// The group with the lowest accuracy.
    pub worst_group: String,
    /// Its accuracy.
    pub worst_accuracy: f64,
    /// The group with the highest accuracy.
    pub best_group: String,
    /// Its accuracy.
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
    pub value: f64,
    /// Over resamples, where there were any.
    pub interval: Option<Interval>,
}

/// Compares the groups that `group_by` and its intersections make. Groupings with fewer than two groups are left out.
pub fn disparities(
    predictions: &Predictions,
    encoders: &Encoders,
    group_by: &[Task],
    bootstrap: &Bootstrap,
) -> Vec<Disparities> {
    let groupings = Grouping::with_intersections(group_by);
    let crossings: Vec<_> = groupings.iter().map(|by| Crossing::new(predictions, encoders, by)).collect();
    let measure = |times: &[u32]| crossings.iter().flat_map(|c| c.measure(times)).collect::<Vec<_>>();
    let n = predictions.len();
    let measured = measure(&vec![1; n]);
    let statistics = |times: &[u32]| measure(times).iter().flat_map(Measured::statistics).collect();
    let intervals = bootstrap.intervals(n, statistics);

    let mut measured = measured.iter().zip(intervals.chunks_exact(Measured::N_STATISTICS));
    let mut found = Vec::new();
    for crossing in &crossings {
        for (over, chosen) in &crossing.compared {
            let tasks = PerTask::from_fn(|_| {
                let (measured, intervals) = measured.next().expect("every comparison was measured");
                measured.describe(&crossing.members.names, intervals)
            });
            let n_groups = chosen.iter().filter(|&&chosen| chosen).count();
            found.push(Disparities { by: crossing.by.clone(), over: *over, n_groups, tasks });
        }
    }
    found
}

/// A grouping, with what is needed to count its groups anew for every resample.
struct Crossing {
    by: Grouping,
    members: Members,
    /// The choices of groups to compare: for each group, whether it is chosen.
    compared: Vec<(Over, Vec<bool>)>,
    n_classes: PerTask<usize>,
    /// Each sample's places in the counts (groups, classes): that of its label and that of its prediction, (n,).
    cells: PerTask<Vec<[usize; 2]>>,
}

impl Crossing {
    fn new(predictions: &Predictions, encoders: &Encoders, by: &Grouping) -> Self {
        let members = Members::new(predictions, encoders, by);
        let n_classes = encoders.n_classes();
        let cells = PerTask::from_fn(|task| {
            let outcomes = predictions.targets[task].iter().zip(predictions.predicted(task));
            let cell = |(&group, (&target, predicted)): (&usize, (&u32, u32))| {
                [target, predicted].map(|class| group * n_classes[task] + class as usize)
            };
            members.group_of.iter().zip(outcomes).map(cell).collect()
        });
        let sizes = members.sizes();
        let choose = |over, least| (over, sizes.iter().map(|&n| n >= least).collect::<Vec<_>>());
        let mut compared = vec![choose(Over::All, 1), choose(Over::Large, SMALL_GROUP)];
        if compared[0].1 == compared[1].1 {
            compared.truncate(1);
        }
        compared.retain(|(_, chosen)| chosen.iter().filter(|&&chosen| chosen).count() >= 2);
        Self { by: by.clone(), members, compared, n_classes, cells }
    }

    /// Compares groups with sample `i` counted `times[i]` times: for each choice of groups, for each task.
    fn measure(&self, times: &[u32]) -> Vec<Measured> {
        let counts = PerTask::from_fn(|task| self.count(task, times));
        let measure = |chosen: &[bool], task| {
            let groups = counts[task].chunks_exact(self.n_classes[task]).enumerate();
            let groups = groups.filter(|&(group, _)| chosen[group]);
            let groups = groups.map(|(group, classes)| GroupCounts::new(group, classes.to_vec()));
            // A resample may miss a group.
            let groups: Vec<_> = groups.filter(|group| group.n > 0).collect();
            Measured::new(&groups, self.by.relation_to(task))
        };
        self.compared.iter().flat_map(|(_, chosen)| Task::ALL.map(|task| measure(chosen, task))).collect()
    }

    /// Counts (groups, classes).
    fn count(&self, task: Task, times: &[u32]) -> Vec<ClassCounts> {
        let mut counts = vec![ClassCounts::default(); self.members.names.len() * self.n_classes[task]];
        for (&[label, prediction], &times) in self.cells[task].iter().zip(times) {
            let times = u64::from(times);
            counts[label].positives += times;
            counts[prediction].selected += times;
            counts[label].hits += if label == prediction { times } else { 0 };
        }
        counts
    }
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
struct Measured {
    /// Worst and best group, with their accuracies.
    accuracy: Option<[(usize, f64); 2]>,
    /// Disparities of each class; empty where they mean nothing.
    classes: Vec<ClassDisparity>,
}

impl Measured {
    const N_STATISTICS: usize = 3;

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

    fn largest(&self, figure: impl Fn(&ClassDisparity) -> Option<f64>) -> Option<f64> {
        self.classes.iter().filter_map(figure).max_by(f64::total_cmp)
    }

    fn smallest(&self, figure: impl Fn(&ClassDisparity) -> Option<f64>) -> Option<f64> {
        self.classes.iter().filter_map(figure).min_by(f64::total_cmp)
    }

    fn describe(&self, names: &[String], intervals: &[Option<Interval>]) -> TaskDisparity {
        let [(worst, worst_accuracy), (best, best_accuracy)] =
            self.accuracy.expect("chosen groups have samples");
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
