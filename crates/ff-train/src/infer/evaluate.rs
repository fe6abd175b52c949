//! A model over labelled images: the predictions that ff-eval judges.

use std::ops::{ControlFlow, Range};

use candle_core::Tensor;
use ff_core::{PerTask, TaskName};
use ff_data::Loader;
use ff_eval::{Attribute, Predictions, TestTimeAugmentation, softmax};
use ff_model::FaceModel;

use crate::feed::{Feeder, InputBatch};
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
    predict_with(TestTimeAugmentation::None, &[], model, feeder, progress)
}

/// As [`predict`], with the mean over several views of every image, and these columns of the samples' CSV as attributes
/// to group by; those that are tasks need none.
///
/// # Errors
/// Also, before any image is read, a column that the CSV does not have.
pub fn predict_with(
    augmentation: TestTimeAugmentation,
    columns: &[String],
    model: &mut FaceModel,
    feeder: &mut Feeder,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Predictions>> {
    let names: Vec<TaskName> = feeder.loader().dataset().targets().names().cloned().collect();
    let others = || columns.iter().filter(|name| !names.iter().any(|task| *task == ***name));
    let manifest = feeder.loader().dataset().manifest();
    if let Some(found) = others().find(|name| manifest.column(name).is_none()) {
        let (known, found) = (manifest.column_names(), found.clone());
        return Err(ff_eval::Error::NoSuchColumn { known, found }.into());
    }
    let batches = 0..feeder.loader().n_batches();
    let Some(answers) = Answers::to(batches, augmentation, model, feeder, progress)? else { return Ok(None) };
    let rows = answers.rows.clone();
    let mut predictions = answers.predictions(feeder.loader())?;
    let manifest = feeder.loader().dataset().manifest();
    for name in others() {
        let values: Vec<&str> = manifest.column(name).into_iter().flatten().collect();
        let of_samples = rows.iter().map(|&row| Some(values[row as usize]));
        predictions.attributes.push(Attribute::new(name, of_samples));
    }
    Ok(Some(predictions))
}

/// What a model says about samples.
pub(super) struct Answers {
    /// The samples, as rows of their manifest.
    pub rows: Vec<u32>,
    /// (rows * classes,) a task.
    pub probabilities: PerTask<Vec<f32>>,
    /// Why a sample is not among them, if one is not.
    pub skipped: Option<String>,
}

impl Answers {
    /// Those to these batches; `None` where `progress` broke off.
    pub(super) fn to(
        batches: Range<usize>,
        augmentation: TestTimeAugmentation,
        model: &mut FaceModel,
        feeder: &mut Feeder,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        let names: Vec<TaskName> = feeder.loader().dataset().targets().names().cloned().collect();
        let probabilities = names.iter().map(|name| (name.clone(), Vec::new())).collect();
        let mut answers = Self { rows: Vec::new(), probabilities, skipped: None };
        let views = augmentation.views();
        let mut batches = feeder.batches(0, batches);
        while let Some(batch) = batches.next() {
            let InputBatch { images, samples } = batch?;
            let images = images.ready(None, model.device())?;
            let logits = model.predict(images.images())?.logits;
            let others: Vec<Vec<Tensor>> = views[1..]
                .iter()
                .map(|&view| Ok(model.predict(batches.view(&images, view)?.images())?.logits))
                .collect::<Result<_>>()?;
            batches.look_ahead();
            let mut probabilities = class_probabilities(&names, &logits, &samples.files)?;
            for logits in &others {
                let other = class_probabilities(&names, logits, &samples.files)?;
                for (task, rows) in probabilities.iter_mut() {
                    rows.iter_mut().zip(&other[task]).for_each(|(sum, p)| *sum += p);
                }
            }
            let share = 1.0 / views.len() as f32;
            probabilities.values_mut().flatten().for_each(|p| *p *= share);
            for (task, rows) in probabilities {
                answers.probabilities[&task].extend(rows);
            }
            answers.rows.extend(samples.sample_indices);
            if progress(answers.rows.len()).is_break() {
                return Ok(None);
            }
        }
        drop(batches);
        answers.skipped = feeder.loader().skipped().values().next().cloned();
        Ok(Some(answers))
    }

    /// With the samples' labels and files.
    ///
    /// # Errors
    /// [`Error::NoSamples`].
    pub(super) fn predictions(self, loader: &Loader) -> Result<Predictions> {
        let Self { rows, probabilities, skipped } = self;
        let dataset = loader.dataset();
        if rows.is_empty() {
            let found = match skipped {
                Some(reason) => format!("none of {} that can be used; {reason}", dataset.len()),
                None => "none".to_owned(),
            };
            return Err(Error::NoSamples { found });
        }
        let of_rows = |ids: &Vec<u32>| rows.iter().map(|&row| ids[row as usize]).collect();
        let targets = dataset.targets().each(|_, ids| of_rows(ids));
        let files = rows.iter().map(|&row| dataset.manifest().rows()[row as usize].file.clone()).collect();
        Ok(Predictions { probabilities, targets, files, ..Predictions::default() })
    }
}

/// Logits (B, classes) a task of these files (B,) -> (B * classes) a task.
fn class_probabilities(names: &[TaskName], logits: &[Tensor], files: &[String]) -> Result<PerTask<Vec<f32>>> {
    let of_task = |(task, logits): (&TaskName, &Tensor)| {
        let mut probabilities = Vec::with_capacity(logits.elem_count());
        for (row, file) in logits.to_vec2::<f32>()?.iter().zip(files) {
            check_finite(file, &format!("logits of {task}"), row)?;
            probabilities.extend(softmax(row));
        }
        Ok((task.clone(), probabilities))
    };
    names.iter().zip(logits).map(of_task).collect()
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
        let names: Vec<TaskName> = ff_core::Schema::fairface().names().cloned().collect();
        let files = ["a.jpg".to_owned(), "b.jpg".to_owned()];
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let good = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
            let bad = Tensor::new(&[[1f32, 2.0], [value, 4.0]], &Device::Cpu).unwrap();
            class_probabilities(&names, &[good.clone(), good.clone(), good.clone()], &files).unwrap();
            let message =
                class_probabilities(&names, &[good.clone(), bad, good], &files).unwrap_err().to_string();
            assert_eq!(
                message,
                format!(
                    "b.jpg: expected finite logits of gender, found {value}; the weights are damaged or have diverged"
                )
            );
        }
    }
}
