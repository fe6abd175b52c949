//! A trained model over images without labels: class probabilities, or embeddings.
//!
//! The loader works ahead while the network computes. An image that cannot be used is listed and stops nothing.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Tensor;
use ff_core::{Encoders, PerTask, argmax};
use ff_data::{Dataset, FaceBox, LoaderConfig, OnBadImage};
use ff_eval::{TestTimeAugmentation, softmax};
use ff_model::weights::to_safetensors;
use ff_model::{FaceModel, Images, Prediction};
use serde::{Serialize, Serializer};

use super::evaluate::check_finite;
use super::photos::PhotoFace;
use super::trained::Trained;
use super::views::logits_of_views;
use crate::Result;
use crate::feed::{Augmentation, BatchPlan, Feeder, InputBatch, Pass, Samples, check_room};

/// A model and the labels behind its logits.
pub struct Predictor {
    pub(super) model: FaceModel,
    pub(super) encoders: Encoders,
    pub(super) views: TestTimeAugmentation,
}

/// What the model says about one face.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FacePrediction {
    /// The image, as it was named.
    pub file: String,
    /// The face in it, where it was given.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    pub face: Option<FaceBox>,
    /// One answer a task.
    #[serde(flatten)]
    pub tasks: PerTask<TaskPrediction>,
}

/// The most probable class of one task, and all others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskPrediction {
    /// The most probable class.
    pub label: String,
    /// Its probability.
    pub probability: f32,
    /// Every class with its probability, in the order of class ids.
    #[serde(serialize_with = "as_map")]
    pub probabilities: Vec<(String, f32)>,
}

/// What the network makes of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// (512).
    pub embedding: Vec<f32>,
    /// A row a task, in the encoders' order: (classes).
    pub logits: Vec<Vec<f32>>,
}

/// An image that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The image, as it was named.
    pub file: String,
    /// Why.
    pub error: String,
}

/// Embeddings of some images.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// The images, as they were named, (N).
    pub files: Vec<String>,
    /// Which faces in them, (N), where they are faces of photos.
    pub faces: Option<Vec<PhotoFace>>,
    /// (N,512) f32 on the CPU.
    pub values: Tensor,
}

impl Predictor {
    /// Puts a trained model to use.
    pub fn new(trained: Trained) -> Self {
        Self { model: trained.model, encoders: trained.encoders, views: TestTimeAugmentation::None }
    }

    /// The same, answering with the mean over several views of every face.
    #[must_use]
    pub fn with_views(self, views: TestTimeAugmentation) -> Self {
        Self { views, ..self }
    }

    /// The labels behind the class ids.
    pub fn encoders(&self) -> &Encoders {
        &self.encoders
    }

    /// The model.
    pub fn model(&self) -> &FaceModel {
        &self.model
    }

    /// Judges prepared images, `planes` (n,3,S,S) f32, in one batch. What comes out is not checked for being finite.
    ///
    /// # Errors
    /// The values make no such images; the device fails.
    pub fn judge(&mut self, planes: &[f32], side: usize) -> Result<Vec<Judged>> {
        let n = planes.len() / (3 * side * side).max(1);
        let images = Tensor::from_slice(planes, (n, 3, side, side), self.model.device())?;
        let Prediction { embedding, logits } = self.model.predict(&images)?;
        let mut judged: Vec<Judged> = embedding
            .to_vec2()?
            .into_iter()
            .map(|embedding| Judged { embedding, logits: Vec::new() })
            .collect();
        for head in logits {
            for (of_image, logits) in judged.iter_mut().zip(head.to_vec2()?) {
                of_image.logits.push(logits);
            }
        }
        Ok(judged)
    }

    /// Predicts every image, batch by batch in order; `each` gets the answers of a batch and may break off. Gives the
    /// images that could not be used.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) where the model's answer is no number.
    pub fn predict(
        &mut self,
        images: Dataset,
        config: LoaderConfig,
        mut each: impl FnMut(Vec<FacePrediction>) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<Failure>> {
        let Self { model, encoders, views } = self;
        let compute = |model: &mut FaceModel, images: Images<'_>| logits_of_views(model, images, *views);
        // Views are made of planes.
        let finish = match views {
            TestTimeAugmentation::None => Augmentation::OnDevice,
            _ => Augmentation::OnHost,
        };
        for_each_batch(model, images, (config, finish), compute, |logits, samples, dataset| {
            let logits = logits.iter().map(|l| Ok(l.to_vec2::<f32>()?)).collect::<Result<Vec<_>>>()?;
            let row = |(i, file): (usize, &String)| -> Result<FacePrediction> {
                let tasks = answers_of_row(encoders, file, &logits, i)?;
                let face = dataset.face(samples.sample_indices[i] as usize);
                Ok(FacePrediction { file: file.clone(), face, tasks })
            };
            each(samples.files.iter().enumerate().map(row).collect::<Result<_>>()?)
        })
    }

    /// Embeds every image; `progress` hears how many of a batch are done. Gives the images that could not be used too.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) where an embedding is no number.
    pub fn embed(
        &mut self,
        images: Dataset,
        config: LoaderConfig,
        mut progress: impl FnMut(usize),
    ) -> Result<(Embeddings, Vec<Failure>)> {
        let (mut files, mut values) = (Vec::new(), Vec::new());
        let compute = |model: &mut FaceModel, images: Images| Ok(model.embed(images)?);
        let failures = for_each_batch(
            &mut self.model,
            images,
            (config, Augmentation::OnDevice),
            compute,
            |embedding, samples, _| {
                for (row, file) in embedding.to_vec2::<f32>()?.into_iter().zip(&samples.files) {
                    check_finite(file, "embedding", &row)?;
                    values.extend(row);
                }
                files.extend_from_slice(&samples.files);
                progress(samples.len());
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let shape = (files.len(), self.model.architecture().embedding_len());
        let values = Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?;
        Ok((Embeddings { files, faces: None, values }, failures))
    }
}

impl Embeddings {
    /// The bytes of a safetensors file: `embeddings` (N,512) f32, and the names as a JSON array under `files` in the
    /// metadata; of photos also their faces, as `predict` writes them, under `faces`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let text = |values: serde_json::Result<String>| values.expect("names and faces are JSON");
        let files = text(serde_json::to_string(&self.files));
        let faces = self.faces.as_ref().map(|faces| text(serde_json::to_string(faces)));
        let mut metadata = vec![("files", files.as_str())];
        metadata.extend(faces.as_ref().map(|faces| ("faces", faces.as_str())));
        Ok(to_safetensors([("embeddings", &self.values)], &metadata)?)
    }
}

/// Runs `compute` over the batches of all images and `then` over its results, and lists images that could not be used.
fn for_each_batch<T>(
    model: &mut FaceModel,
    images: Dataset,
    (config, finish): (LoaderConfig, Augmentation),
    compute: impl Fn(&mut FaceModel, Images<'_>) -> Result<T>,
    mut then: impl FnMut(T, &Samples, &Dataset) -> Result<ControlFlow<()>>,
) -> Result<Vec<Failure>> {
    if model.device().is_cpu() {
        let LoaderConfig { batch_size, prefetch, .. } = config;
        let (backbone, precision, image_size) =
            (model.architecture(), model.precision(), images.size().height);
        let plan =
            BatchPlan { pass: Pass::Evaluation, backbone, precision, image_size, batch_size, prefetch };
        check_room(plan, images.len())?;
    }
    let dataset = Arc::new(images);
    let config = config.with_on_bad_image(OnBadImage::Skip);
    let mut feeder = Feeder::new(Arc::clone(&dataset), config, model, finish)?;
    let mut batches = feeder.epoch(0, 0);
    while let Some(batch) = batches.next() {
        let InputBatch { images, samples } = batch?;
        let images = images.ready(None, model.device())?;
        let computed = compute(model, images.images())?;
        batches.look_ahead();
        if then(computed, &samples, &dataset)?.is_break() {
            break;
        }
    }
    drop(batches);
    let failure = |(&i, error): (&u32, &String)| Failure {
        file: dataset.manifest().rows()[i as usize].file.clone(),
        error: error.clone(),
    };
    Ok(feeder.loader().skipped().iter().map(failure).collect())
}

/// The answers about a file, of row `i` of every head's logits.
///
/// # Errors
/// A logit is no number.
pub(super) fn answers_of_row(
    encoders: &Encoders,
    file: &str,
    logits: &[Vec<Vec<f32>>],
    i: usize,
) -> Result<PerTask<TaskPrediction>> {
    answers(encoders, file, logits.iter().map(|head| head[i].as_slice()))
}

/// The answers about a file, of its logits for every task in the encoders' order.
///
/// # Errors
/// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) where a logit is no number.
///
/// # Panics
/// There are fewer than the encoders have tasks.
pub fn answers<'a>(
    encoders: &Encoders,
    file: &str,
    logits: impl IntoIterator<Item = &'a [f32]>,
) -> Result<PerTask<TaskPrediction>> {
    let mut heads = logits.into_iter();
    encoders.try_each(|task, encoder| {
        let logits = heads.next().expect("there is a head a task");
        check_finite(file, &format!("logits of {task}"), logits)?;
        Ok(answer(encoder.labels(), logits))
    })
}

/// The answer of finite logits.
fn answer(labels: &[String], logits: &[f32]) -> TaskPrediction {
    let probabilities = softmax(logits);
    let best = argmax(&probabilities).expect("a task has classes, and their logits are finite");
    let (label, probability) = (labels[best].clone(), probabilities[best]);
    TaskPrediction { label, probability, probabilities: labels.iter().cloned().zip(probabilities).collect() }
}

/// Pairs as an object, in their order.
fn as_map<S: Serializer>(pairs: &[(String, f32)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(label, p)| (label, p)))
}
