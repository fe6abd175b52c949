//! Class probabilities of every sample of a feeder, in its order, with targets and file names.
//!
//! Nothing is judged here.

use std::ops::ControlFlow;

use candle_core::Tensor;
use ff_data::{PerTask, Task};
use ff_model::FaceModel;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::feed::{Fed, Feeder};
use crate::metrics::{argmax, softmax};

/// Class probabilities and targets of some samples, in order.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// Row-major (n, classes) a task.
    pub probabilities: PerTask<Vec<f32>>,
    /// (n,) a task.
    pub targets: PerTask<Vec<u32>>,
    /// The samples' `file` fields, (n,).
    pub files: Vec<String>,
}

/// Views of an image whose probabilities are averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestTimeAugmentation {
    /// The image alone.
    #[default]
    None,
    /// The image and its mirror image; the mean is of probabilities, not of logits.
    Flip,
}

/// Runs the model over every batch. `progress` hears the number of samples done and may break off: `None` then.
pub fn predict(
    model: &mut FaceModel,
    feeder: &mut Feeder,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Predictions>> {
    predict_with(TestTimeAugmentation::None, model, feeder, progress)
}

/// As [`predict`], with the mean over several views of every image.
pub fn predict_with(
    augmentation: TestTimeAugmentation,
    model: &mut FaceModel,
    feeder: &mut Feeder,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Predictions>> {
    let mut predictions = Predictions::default();
    let mut batches = feeder.epoch(0, 0);
    while let Some(batch) = batches.next() {
        let Fed { images, samples } = batch?;
        let images = images.ready(None, model.device())?;
        let logits = model.predict(images.images())?.logits;
        let mirrored = match augmentation {
            TestTimeAugmentation::None => None,
            TestTimeAugmentation::Flip => Some(model.predict(batches.mirrored(&images)?.images())?.logits),
        };
        batches.look_ahead();
        let mut probabilities = class_probabilities(&logits)?;
        if let Some(mirrored) = mirrored {
            let mirrored = class_probabilities(&mirrored)?;
            for (task, rows) in probabilities.iter_mut() {
                rows.iter_mut().zip(&mirrored[task]).for_each(|(p, q)| *p = 0.5 * (*p + q));
            }
        }
        for (task, rows) in probabilities {
            predictions.probabilities[task].extend(rows);
            predictions.targets[task].extend(&samples.targets[task]);
        }
        predictions.files.extend(samples.files);
        if progress(predictions.len()).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(predictions))
}

/// Logits (B, classes) a task -> (B * classes) a task.
fn class_probabilities(logits: &[Tensor]) -> Result<PerTask<Vec<f32>>> {
    let mut probabilities = PerTask::<Vec<f32>>::default();
    for ((_, rows), logits) in probabilities.iter_mut().zip(logits) {
        for row in logits.to_vec2::<f32>()? {
            rows.extend(softmax(&row));
        }
    }
    Ok(probabilities)
}

impl Predictions {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Class probabilities (classes) and target of every sample, for one task.
    pub fn rows(&self, task: Task) -> impl Iterator<Item = (&[f32], u32)> {
        let n_classes = self.probabilities[task].len() / self.len().max(1);
        let rows = self.probabilities[task].chunks_exact(n_classes.max(1));
        rows.zip(self.targets[task].iter().copied())
    }

    /// The most probable class of every sample, (n,).
    pub fn predicted(&self, task: Task) -> Vec<u32> {
        self.rows(task).map(|(row, _)| argmax(row) as u32).collect()
    }
}
