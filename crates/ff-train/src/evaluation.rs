//! What a model gets right, over all and by group.
//!
//! Every sample of the loader counts, once. Groups are made by target labels, and sum to the whole.

use std::ops::ControlFlow;

use ff_data::{Encoders, Loader, PerTask, Task, age_order};
use ff_model::FaceModel;
use serde::Serialize;

use crate::Result;
use crate::batch;
use crate::metrics::{Tally, TaskMetrics, softmax};

/// Class probabilities and targets of some samples, in order.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// Row-major (n, classes) a task.
    pub probabilities: PerTask<Vec<f32>>,
    /// (n,) a task.
    pub targets: PerTask<Vec<u32>>,
}

/// The figures of an evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Samples evaluated.
    pub n: usize,
    /// Figures a task.
    pub tasks: PerTask<TaskMetrics>,
    /// Counts a task: (classes, classes), row = label, column = prediction.
    pub confusion: PerTask<Vec<Vec<u64>>>,
    /// Figures a group, for every attribute grouped by.
    pub groups: Vec<GroupMetrics>,
}

/// The figures of one group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupMetrics {
    /// The attribute that makes the group, as `race`.
    pub by: Task,
    /// The group's label, as `Indian`.
    pub group: String,
    /// Samples in it.
    pub n: usize,
    /// Figures a task, over the group's samples.
    pub tasks: PerTask<TaskMetrics>,
}

/// Runs the model over every batch. `progress` hears the number of samples done and may break off: `None` then.
pub fn predict(
    model: &mut FaceModel,
    loader: &mut Loader,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Predictions>> {
    let mut probabilities = PerTask::<Vec<f32>>::default();
    let mut targets = PerTask::<Vec<u32>>::default();
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let logits = model.predict(&batch::images(&batch, model.device())?)?.logits;
        for ((task, rows), logits) in probabilities.iter_mut().zip(&logits) {
            for row in logits.to_vec2::<f32>()? {
                rows.extend(softmax(&row));
            }
            targets[task].extend(&batch.targets[task]);
        }
        if progress(targets.age.len()).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(Predictions { probabilities, targets }))
}

impl Predictions {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.targets.age.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All figures, and those of the groups that each attribute of `group_by` makes.
    ///
    /// One-off accuracy of age is left out where its labels are no age bins.
    pub fn evaluate(&self, encoders: &Encoders, group_by: &[Task]) -> Evaluation {
        let all = self.tally(encoders, |_| true);
        let mut groups = Vec::new();
        for &by in group_by {
            for (id, label) in encoders[by].labels().iter().enumerate() {
                let member = |i: usize| self.targets[by][i] == id as u32;
                let n = (0..self.len()).filter(|&i| member(i)).count();
                groups.push(GroupMetrics {
                    by,
                    group: label.clone(),
                    n,
                    tasks: self.tally(encoders, member).map(|tally| tally.metrics()),
                });
            }
        }
        let confusion = all.as_ref().map(Tally::confusion);
        Evaluation { n: self.len(), tasks: all.map(|tally| tally.metrics()), confusion, groups }
    }

    fn tally(&self, encoders: &Encoders, member: impl Fn(usize) -> bool) -> PerTask<Tally> {
        PerTask::from_fn(|task| {
            let n_classes = encoders[task].n_classes();
            let ranks = (task == Task::Age).then(|| age_order(&encoders[task]).ok()).flatten();
            let mut tally = Tally::new(n_classes, ranks);
            let rows = self.probabilities[task].chunks_exact(n_classes).zip(&self.targets[task]);
            for (_, (row, &target)) in rows.enumerate().filter(|(i, _)| member(*i)) {
                tally.add(row, target);
            }
            tally
        })
    }
}
