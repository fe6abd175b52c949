//! A model that has learnt, from a run or from a file.

use std::path::PathBuf;

use ff_core::{Encoders, LabelEncoder};
use ff_model::{Compute, FaceModel, TaskLabels};

use crate::run::{CheckpointName, RunDir};
use crate::setup::{heads, task_labels};
use crate::{Error, Result};

/// A model that has learnt, and the labels behind its logits.
pub struct Trained {
    /// The model.
    pub model: FaceModel,
    /// The labels, in the order of class ids.
    pub encoders: Encoders,
    /// The checkpoint's folder or the file that it came from.
    pub path: PathBuf,
    /// Optimiser steps that it has taken, as far as that is known: files do not say it.
    pub step: Option<u64>,
    /// Height and width of the images that it was trained on, as far as that is known: files do not say it.
    pub image_size: Option<usize>,
}

impl Trained {
    /// Tasks and labels in the order of the heads, as a model file carries them.
    pub fn labels(&self) -> Vec<TaskLabels> {
        task_labels(&self.encoders)
    }
}

/// Where a trained model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainedSource {
    /// A checkpoint of a run.
    Run {
        /// The run's folder.
        dir: PathBuf,
        /// Which checkpoint.
        which: CheckpointName,
    },
    /// A file with labels: a checkpoint's `model.safetensors`, or FairFace's own release.
    Weights(PathBuf),
}

/// Opens a trained model.
///
/// # Errors
/// There is none; a file that is damaged, holds a backbone only, or has labels that make no encoders.
pub fn open_trained(source: &TrainedSource, compute: &Compute) -> Result<Trained> {
    match source {
        TrainedSource::Run { dir, which } => {
            let run = RunDir::open(dir)?;
            let checkpoint = run.open_checkpoint(*which)?;
            let config = run.config()?;
            let image_size = Some(config.data.image_size);
            let state = checkpoint.state()?;
            let (encoders, step) = (state.encoders, Some(state.position.step));
            let mut model = FaceModel::new(config.model.backbone, &heads(&encoders), compute, 0)?;
            checkpoint.load_model(&mut model)?;
            Ok(Trained { model, encoders, path: checkpoint.path().to_owned(), step, image_size })
        }
        TrainedSource::Weights(path) => {
            let (model, labels) = FaceModel::open(path, compute)?;
            let bad =
                |e: ff_core::schema::Error| Error::BadFile { path: path.clone(), message: e.to_string() };
            let encoder = |TaskLabels { task, labels }: TaskLabels| {
                Ok((task.name.clone(), LabelEncoder::from_sorted(task, labels).map_err(bad)?))
            };
            let encoders = labels.into_iter().map(encoder).collect::<Result<_>>()?;
            Ok(Trained {
                model,
                encoders: Encoders::new(encoders).map_err(bad)?,
                path: path.clone(),
                step: None,
                image_size: None,
            })
        }
    }
}
