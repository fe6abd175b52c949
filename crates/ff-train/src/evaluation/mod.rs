//! What a model gets right, over all and by group, and what it gets wrong.
//!
//! ```text
//! predict -> Predictions --evaluate--> Evaluation      metrics, counts, groups: what training needs
//!                        --record----> EvaluationRecord  and disparities, calibration, mistakes, suspected labels
//! ```
//!
//! Every sample of the loader counts, once. Groups are made by target labels; the groups of one grouping sum to the
//! whole. Whatever is indexed by class is in the order of class ids; [`Evaluation::display_order`] says how to show it.

mod bootstrap;
mod disparity;
mod groups;
mod label_errors;
mod mistakes;
mod predictions;
mod rates;
mod record;
mod temperature;

use ff_data::{Encoders, PerTask, Task, age_order};
use serde::{Deserialize, Serialize};

pub use bootstrap::Bootstrap;
pub use disparity::{ClassDisparity, Disparities, Estimate, Over, ParityAndOdds, TaskDisparity, disparities};
pub use groups::{GroupMetrics, GroupTask, Grouping, SMALL_GROUP};
pub use label_errors::{LabelErrors, Suspect, label_errors};
pub use mistakes::{Confusion, Mistake, mistakes, top_confusions};
pub(crate) use predictions::check_finite;
pub use predictions::{Predictions, TestTimeAugmentation, predict, predict_with};
pub use rates::{ClassCounts, Interval, Rates, wilson};
pub use record::{EvaluationRecord, Settings, Source};
pub use temperature::{Calibrated, Calibration, Temperature};

use crate::metrics::{ConfusionMatrix, ReliabilityBin, Tally, TaskMetrics};
use crate::{Error, Result};

/// The figures of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples evaluated.
    pub n: usize,
    /// Labels a task, by class id.
    pub labels: PerTask<Vec<String>>,
    /// Class ids a task, in the order to show them: ages from young to old, others as their ids.
    pub display_order: PerTask<Vec<usize>>,
    /// Figures a task.
    pub tasks: PerTask<TaskMetrics>,
    /// What was taken for what, a task.
    pub confusion: PerTask<ConfusionMatrix>,
    /// Reliability curve a task.
    pub reliability: PerTask<Vec<ReliabilityBin>>,
    /// Figures a group, grouping after grouping; empty groups too.
    pub groups: Vec<GroupMetrics>,
}

impl Predictions {
    /// Figures over all samples, and over those of every group that `group_by` and its intersections make.
    ///
    /// One-off accuracy of age is left out where its labels are no age bins.
    ///
    /// # Errors
    /// [`Error::NoSamples`]: nothing is not 0 % of it.
    pub fn evaluate(&self, encoders: &Encoders, group_by: &[Task]) -> Result<Evaluation> {
        let all = PerTask::from_fn(|task| {
            let mut tally = empty_tally(encoders, task);
            self.rows(task).for_each(|(row, target)| tally.add(row, target));
            tally
        });
        let tasks = PerTask::try_from_fn(|task| {
            all[task].metrics().ok_or_else(|| Error::NoSamples { found: "none".to_owned() })
        })?;
        let groupings = Grouping::with_intersections(group_by);
        Ok(Evaluation {
            n: self.len(),
            labels: encoders.as_ref().map(|encoder| encoder.labels().to_vec()),
            display_order: PerTask::from_fn(|task| display_order(encoders, task)),
            tasks,
            confusion: all.as_ref().map(|tally| tally.confusion().clone()),
            reliability: all.as_ref().map(Tally::reliability),
            groups: groupings.iter().flat_map(|by| groups::group_metrics(self, encoders, by)).collect(),
        })
    }
}

/// A tally of nothing yet, which knows the order of the classes where they have one.
fn empty_tally(encoders: &Encoders, task: Task) -> Tally {
    Tally::new(encoders[task].n_classes(), ranks(encoders, task))
}

fn ranks(encoders: &Encoders, task: Task) -> Option<Vec<u32>> {
    (task == Task::Age).then(|| age_order(&encoders[task]).ok()).flatten()
}

/// Class ids in the order to show them.
pub fn display_order(encoders: &Encoders, task: Task) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..encoders[task].n_classes()).collect();
    if let Some(ranks) = ranks(encoders, task) {
        ids.sort_by_key(|&id| ranks[id]);
    }
    ids
}
