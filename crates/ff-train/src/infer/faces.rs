//! A trained model over the faces in photos.
//!
//! Faces of all photos fill common batches, while the next photos are searched. Rows leave in the order of photos and
//! faces; a photo without a face is a row too.

use std::ops::ControlFlow;

use candle_core::Tensor;
use ff_core::PerTask;
use ff_data::transforms::{AugmentParams, augment_into};
use ff_data::{ImageSize, LoaderConfig};
use ff_model::{FaceModel, Images};
use serde::Serialize;

use super::evaluate::check_finite;
use super::photos::{PhotoFace, Photos, SearchedPhoto};
use super::predictor::{Embeddings, Failure, Predictor, TaskPrediction, answers_of_row};
use super::views::logits_of_views;
use crate::Result;
use crate::feed::{BatchPlan, Pass, check_room};

/// Rows that wait for a batch to be filled: photos without a face are told even where there is hardly a face.
const MAX_WAITING: usize = 1024;

/// A face of a photo, or a photo without one, and what the model says about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhotoPrediction {
    /// The photo, as it was named.
    pub file: String,
    /// Its place among the photos.
    #[serde(skip)]
    pub photo: usize,
    /// Its size, upright.
    #[serde(skip)]
    pub size: ImageSize,
    /// The face; `None` where none was found.
    pub face: Option<PhotoFace>,
    /// One answer a task; none without a face, or for one that was set aside, or of no model.
    #[serde(flatten)]
    pub tasks: Option<PerTask<TaskPrediction>>,
}

/// A row without answers, and the place of its crop in the batch.
struct Row {
    row: PhotoPrediction,
    crop: Option<usize>,
}

impl Predictor {
    /// Predicts every face of every photo; `each` gets rows in order, some at a time, and may break off. Gives the
    /// photos that could not be used.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) where the model's answer is no number.
    pub fn predict_photos(
        &mut self,
        photos: &Photos,
        batch_size: usize,
        mut each: impl FnMut(Vec<PhotoPrediction>) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<Failure>> {
        let Self { model, encoders, views } = self;
        let compute = |model: &mut FaceModel, images: Images<'_>| logits_of_views(model, images, *views);
        for_each_batch(model, photos, batch_size, compute, |rows, logits| {
            let logits = logits.unwrap_or_default();
            let logits = logits.iter().map(|l| Ok(l.to_vec2::<f32>()?)).collect::<Result<Vec<_>>>()?;
            let answered = |Row { mut row, crop }: Row| -> Result<PhotoPrediction> {
                row.tasks = crop.map(|i| answers_of_row(encoders, &row.file, &logits, i)).transpose()?;
                Ok(row)
            };
            each(rows.into_iter().map(answered).collect::<Result<_>>()?)
        })
    }

    /// Embeds every face of every photo; `each` gets all rows in order, those without a face too. Gives the photos that
    /// could not be used too.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) where an embedding is no number.
    pub fn embed_photos(
        &mut self,
        photos: &Photos,
        batch_size: usize,
        mut each: impl FnMut(&[PhotoPrediction]),
    ) -> Result<(Embeddings, Vec<Failure>)> {
        let (mut files, mut faces, mut values) = (Vec::new(), Vec::new(), Vec::<f32>::new());
        let compute = |model: &mut FaceModel, images: Images| Ok(model.embed(images)?);
        let failures = for_each_batch(&mut self.model, photos, batch_size, compute, |rows, embedding| {
            let embedding = embedding.map_or(Ok(Vec::new()), |e| e.to_vec2::<f32>())?;
            for Row { row, crop } in &rows {
                if let (Some(i), Some(face)) = (*crop, &row.face) {
                    check_finite(&row.file, "embedding", &embedding[i])?;
                    values.extend(&embedding[i]);
                    files.push(row.file.clone());
                    faces.push(face.clone());
                }
            }
            each(&rows.into_iter().map(|row| row.row).collect::<Vec<_>>());
            Ok(ControlFlow::Continue(()))
        })?;
        let shape = (files.len(), self.model.architecture().embedding_len());
        let values = Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?;
        Ok((Embeddings { files, faces: Some(faces), values }, failures))
    }
}

impl Photos {
    /// The rows of all photos without a model's answers; `each` gets a photo's at a time and may break off. Gives the
    /// photos that could not be used.
    ///
    /// # Errors
    /// As [`Photos::search`].
    pub fn rows(
        &self,
        mut each: impl FnMut(Vec<PhotoPrediction>) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        self.search(|photo, searched| match searched {
            Ok(searched) => {
                each(searched.rows(&self.inputs[photo].name, photo).map(|(row, _)| row).collect())
            }
            Err(error) => {
                failures.push(self.failure(photo, &error));
                Ok(ControlFlow::Continue(()))
            }
        })?;
        Ok(failures)
    }

    fn failure(&self, photo: usize, error: &ff_data::Error) -> Failure {
        Failure { file: self.inputs[photo].name.clone(), error: error.to_string() }
    }
}

impl SearchedPhoto {
    /// Its rows without answers, each with its crop, which is empty where there is nothing to judge; `photo` is its
    /// place among others.
    pub fn rows(self, file: &str, photo: usize) -> impl Iterator<Item = (PhotoPrediction, Vec<u8>)> {
        let Self { size, faces } = self;
        let none = faces.is_empty().then(|| (None, Vec::new()));
        let faces = faces.into_iter().map(|(face, crop)| (Some(face), crop));
        faces.chain(none).map(move |(face, crop)| {
            (PhotoPrediction { file: file.to_owned(), photo, size, face, tasks: None }, crop)
        })
    }
}

/// Runs `compute` over batches of all faces and `then` over the rows and its results, and lists photos that could not be
/// used.
fn for_each_batch<T>(
    model: &mut FaceModel,
    photos: &Photos,
    batch_size: usize,
    compute: impl Fn(&mut FaceModel, Images<'_>) -> Result<T>,
    mut then: impl FnMut(Vec<Row>, Option<T>) -> Result<ControlFlow<()>>,
) -> Result<Vec<Failure>> {
    let image_size = photos.options.image_size;
    if model.device().is_cpu() {
        let (backbone, prefetch) = (model.architecture(), LoaderConfig::PREFETCH);
        let precision = model.precision();
        let plan =
            BatchPlan { pass: Pass::Evaluation, backbone, precision, image_size, batch_size, prefetch };
        check_room(plan, batch_size)?;
    }
    let (mut failures, mut waiting) = (Vec::new(), Waiting::new(image_size));
    photos.search(|photo, searched| {
        let searched = match searched {
            Ok(searched) => searched,
            Err(error) => {
                failures.push(photos.failure(photo, &error));
                return Ok(ControlFlow::Continue(()));
            }
        };
        for (row, crop) in searched.rows(&photos.inputs[photo].name, photo) {
            waiting.push(row, &crop);
            if waiting.n == batch_size && waiting.flush(model, &compute, &mut then)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        // Without a crop there is nothing to wait for.
        if waiting.n == 0 || waiting.rows.len() >= MAX_WAITING {
            return waiting.flush(model, &compute, &mut then);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    // After a break nobody wants what still waits.
    if !waiting.broken_off && !waiting.rows.is_empty() {
        let _ = waiting.flush(model, &compute, &mut then)?;
    }
    Ok(failures)
}

/// Rows, and the crops of some of them as planes.
struct Waiting {
    rows: Vec<Row>,
    /// (n,3,S,S) f32, normalised.
    planes: Vec<f32>,
    n: usize,
    size: ImageSize,
    broken_off: bool,
}

impl Waiting {
    fn new(side: usize) -> Self {
        let size = ImageSize { width: side, height: side };
        Self { rows: Vec::new(), planes: Vec::new(), n: 0, size, broken_off: false }
    }

    fn push(&mut self, row: PhotoPrediction, crop: &[u8]) {
        if crop.is_empty() {
            self.rows.push(Row { row, crop: None });
            return;
        }
        let start = self.planes.len();
        self.planes.resize(start + 3 * self.size.area(), 0.0);
        let planes = &mut self.planes[start..];
        augment_into(&AugmentParams::default(), crop, self.size, planes, &mut Vec::new());
        self.rows.push(Row { row, crop: Some(self.n) });
        self.n += 1;
    }

    fn flush<T>(
        &mut self,
        model: &mut FaceModel,
        compute: &impl Fn(&mut FaceModel, Images<'_>) -> Result<T>,
        then: &mut impl FnMut(Vec<Row>, Option<T>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let computed = match self.n {
            0 => None,
            n => {
                let shape = (n, 3, self.size.height, self.size.width);
                let images = Tensor::from_slice(&self.planes, shape, model.device())?;
                Some(compute(model, (&images).into())?)
            }
        };
        self.n = 0;
        self.planes.clear();
        let ending = then(std::mem::take(&mut self.rows), computed)?;
        self.broken_off |= ending.is_break();
        Ok(ending)
    }
}
