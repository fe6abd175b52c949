//! Class probabilities of some samples, in order, with targets, file names and whatever else they are grouped by.
//!
//! Nothing is judged here.

use ff_core::{Encoders, PerTask, TaskName, UNKNOWN, argmax};

use crate::{Attribute, Tally};

/// Class probabilities and targets of some samples, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// Row-major (n, classes) a task.
    pub probabilities: PerTask<Vec<f32>>,
    /// (n,) a task; [`UNKNOWN`] where the label is not known.
    pub targets: PerTask<Vec<u32>>,
    /// The samples' `file` fields, (n,).
    pub files: Vec<String>,
    /// Further columns to group by.
    pub attributes: Vec<Attribute>,
    /// Tasks whose predictions are labels without probabilities: their rows are one for the class predicted and zero
    /// for the others, and figures that need probabilities are undefined.
    pub labels_only: Vec<TaskName>,
}

/// A sample whose label is known, for one task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// Its place among the samples.
    pub sample: usize,
    /// Class probabilities (classes).
    pub row: &'a [f32],
    pub target: u32,
}

impl Known<'_> {
    /// The most probable class.
    pub fn predicted(&self) -> u32 {
        most_probable(self.row)
    }
}

impl Predictions {
    /// No samples yet, of these tasks.
    pub fn of(encoders: &Encoders) -> Self {
        Self {
            probabilities: encoders.each(|_, _| Vec::new()),
            targets: encoders.each(|_, _| Vec::new()),
            ..Self::default()
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Class probabilities (classes) and target of every sample, for one task; a target may be [`UNKNOWN`].
    pub fn rows(&self, task: &TaskName) -> impl Iterator<Item = (&[f32], u32)> {
        let n_classes = self.probabilities[task].len() / self.len().max(1);
        let rows = self.probabilities[task].chunks_exact(n_classes.max(1));
        rows.zip(self.targets[task].iter().copied())
    }

    /// The most probable class of every sample, (n,).
    ///
    /// # Panics
    /// All probabilities of a sample are NaN.
    pub fn predicted(&self, task: &TaskName) -> Vec<u32> {
        self.rows(task).map(|(row, _)| most_probable(row)).collect()
    }

    /// The samples that count for a task.
    pub(crate) fn known(&self, task: &TaskName) -> impl Iterator<Item = Known<'_>> {
        let samples =
            self.rows(task).enumerate().map(|(sample, (row, target))| Known { sample, row, target });
        samples.filter(|known| known.target != UNKNOWN)
    }

    /// Whether a task's probabilities say more than its predictions.
    pub fn has_probabilities(&self, task: &TaskName) -> bool {
        !self.labels_only.contains(task)
    }

    /// A tally of nothing yet, which knows the order of the classes where they have one.
    pub(crate) fn empty_tally(&self, encoders: &Encoders, task: &TaskName) -> Tally {
        let encoder = &encoders[task];
        let tally = Tally::new(encoder.n_classes(), encoder.ranks().map(<[u32]>::to_vec));
        if self.has_probabilities(task) { tally } else { tally.of_labels_only() }
    }
}

fn most_probable(row: &[f32]) -> u32 {
    argmax(row).expect("one probability at least is a number") as u32
}
