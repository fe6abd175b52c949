//! The figures of an evaluation: metrics, counts and groups.

use ff_core::{Encoders, PerTask, TaskName};
use serde::{Deserialize, Serialize};

use crate::groups::{MOST_GROUPS, Members, check_group_by, group_metrics};
use crate::{
    ConfusionMatrix, Error, GroupMetrics, Grouping, Predictions, ReliabilityBin, Result, TaskMetrics,
};

/// The figures of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples evaluated. A task's own are those whose label is known: [`ConfusionMatrix::n`].
    pub n: usize,
    /// Labels a task, by class id.
    pub labels: PerTask<Vec<String>>,
    /// Class ids a task, in the order to show them: ages from young to old, others as their ids.
    pub display_order: PerTask<Vec<usize>>,
    /// Figures a task; all NaN for a task without any known label.
    pub tasks: PerTask<TaskMetrics>,
    /// What was taken for what, a task.
    pub confusion: PerTask<ConfusionMatrix>,
    /// Reliability curve a task.
    pub reliability: PerTask<Vec<ReliabilityBin>>,
    /// Figures a group, grouping after grouping; empty groups too.
    pub groups: Vec<GroupMetrics>,
    /// Groupings that leave samples out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_grouped: Vec<NotGrouped>,
}

/// A grouping in which some samples are in no group, for want of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotGrouped {
    /// What makes the groups.
    pub by: Grouping,
    /// Samples that are in none of them.
    pub n_unknown: u64,
}

impl Evaluation {
    /// Samples whose label in this task is not known: they count for no figure of it.
    pub fn n_unknown(&self, task: &TaskName) -> u64 {
        (self.n as u64).saturating_sub(self.confusion[task].n())
    }
}

impl Predictions {
    /// Figures over all samples, and over those of every group that `group_by` and its intersections make: each is a
    /// task's name or that of an [`Attribute`](crate::Attribute).
    ///
    /// # Errors
    /// [`Error::NoSamples`]: nothing is not 0 % of it. [`Error::NoSuchColumn`] and [`Error::TooManyGroups`].
    pub fn evaluate(&self, encoders: &Encoders, group_by: &[String]) -> Result<Evaluation> {
        let no_samples = |found| Err(Error::NoSamples { found });
        if self.is_empty() {
            return no_samples("none".to_owned());
        }
        check_group_by(self, encoders, group_by, MOST_GROUPS)?;
        let all = encoders.each(|task, _| {
            let mut tally = self.empty_tally(encoders, task);
            self.known(task).for_each(|known| tally.add(known.row, known.target));
            tally
        });
        if all.values().all(|tally| tally.confusion().n() == 0) {
            return no_samples(format!("{} without any label", self.len()));
        }
        let (mut groups, mut not_grouped) = (Vec::new(), Vec::new());
        for by in Grouping::with_intersections(group_by) {
            let members = Members::new(self, encoders, &by)?;
            groups.extend(group_metrics(self, encoders, &by, &members));
            let n_unknown = members.n_unknown();
            if n_unknown > 0 {
                not_grouped.push(NotGrouped { by, n_unknown });
            }
        }
        Ok(Evaluation {
            n: self.len(),
            labels: encoders.each(|_, encoder| encoder.labels().to_vec()),
            display_order: encoders.each(|_, encoder| encoder.display_order()),
            tasks: all.each(|_, tally| tally.metrics().unwrap_or(TaskMetrics::UNDEFINED)),
            confusion: all.each(|_, tally| tally.confusion().clone()),
            reliability: all.each(|_, tally| tally.reliability()),
            groups,
            not_grouped,
        })
    }
}
