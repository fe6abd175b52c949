//! Runs a model over every sample of a feeder: class probabilities in its order, with targets and file names.
//!
//! Nothing is judged here: that is ff-eval's.

use std::ops::ControlFlow;

use candle_core::Tensor;
use ff_core::PerTask;
use ff_eval::{Predictions, TestTimeAugmentation, softmax};
use ff_model::FaceModel;

use crate::feed::{Fed, Feeder};
use crate::{Error, Result};

/// Runs the model over every batch. `progress` hears the number of samples done and may break off: `None` then.
///
/// # Errors
/// [`Error::NoSamples`] where no image could be used, [`Error::NonFiniteOutput`] where an answer is no number; a broken image,
/// unless they are skipped.
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
        let mut probabilities = class_probabilities(&logits, &samples.files)?;
        if let Some(mirrored) = mirrored {
            let mirrored = class_probabilities(&mirrored, &samples.files)?;
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
    drop(batches);
    if predictions.is_empty() {
        let loader = feeder.loader();
        let found = match loader.skipped().values().next() {
            Some(reason) => format!("none of {} that can be used; {reason}", loader.dataset().len()),
            None => "none".to_owned(),
        };
        return Err(Error::NoSamples { found });
    }
    Ok(Some(predictions))
}

/// Logits (B, classes) a task of these files (B,) -> (B * classes) a task.
fn class_probabilities(logits: &[Tensor], files: &[String]) -> Result<PerTask<Vec<f32>>> {
    let mut probabilities = PerTask::<Vec<f32>>::default();
    for ((task, rows), logits) in probabilities.iter_mut().zip(logits) {
        for (row, file) in logits.to_vec2::<f32>()?.iter().zip(files) {
            check_finite(file, &format!("logits of {task}"), row)?;
            rows.extend(softmax(row));
        }
    }
    Ok(probabilities)
}

/// Refuses what a model says about a file where it is no number: such an answer looks like any other once it is a
/// label.
pub(crate) fn check_finite(file: &str, what: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(&value) => Err(Error::NonFiniteOutput { file: file.to_owned(), what: what.to_owned(), value }),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// A NaN once became the answer 0-2 with a probability, and exit code 0.
    #[test]
    fn answers_that_are_no_numbers_are_refused_by_the_name_of_their_file() {
        let files = ["a.jpg".to_owned(), "b.jpg".to_owned()];
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let good = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
            let bad = Tensor::new(&[[1f32, 2.0], [value, 4.0]], &Device::Cpu).unwrap();
            class_probabilities(&[good.clone(), good.clone(), good.clone()], &files).unwrap();
            let message = class_probabilities(&[good.clone(), bad, good], &files).unwrap_err().to_string();
            assert_eq!(
                message,
                format!(
                    "b.jpg: expected finite logits of gender, found {value}; the weights are damaged or have diverged"
                )
            );
        }
    }
}
