//! Checkpoints: everything that continuing or using a run needs, in one folder that is replaced whole.
//!
//! `model.safetensors` (parameters and BatchNorm statistics under torchvision's names, labels in its metadata),
//! `state.safetensors` (the optimiser's tensors), `state.json` ([`State`]). Loading checks everything before it
//! changes anything.

use std::path::{Path, PathBuf};

use candle_core::Device;
use ff_data::Encoders;
use ff_model::{FaceModel, HeadSpec, weights};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::optimizer::Optimizer;
use crate::{Error, Result};

/// Version of the format; others are refused.
const FORMAT: u32 = 1;
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "state.safetensors";
const STATE: &str = "state.json";

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Optimiser steps taken.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Batches of the current epoch already used.
    pub batch: usize,
    /// Images of the current epoch already used.
    pub images: u64,
    /// Sum over those images of their batch's mean loss.
    pub loss_sum: f64,
    /// The best mean validation accuracy so far.
    pub best: Option<f64>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    /// Where the run stands.
    pub position: Position,
    /// The labels behind the class ids.
    pub encoders: Encoders,
}

/// A checkpoint's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// The checkpoint in this folder, or the one it was replacing when the writer was killed.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> Result<Self> {
        let candidates = [path.to_owned(), files::previous(path)];
        let found = candidates.into_iter().find(|path| path.join(STATE).is_file());
        let missing = || Error::BadFile {
            path: path.to_owned(),
            message: format!("expected a checkpoint with {STATE}, found none"),
        };
        Ok(Self { path: found.ok_or_else(missing)? })
    }

    /// Writes one, replacing what is there.
    pub fn write(path: &Path, model: &FaceModel, optimizer: &Optimizer, state: &State) -> Result<()> {
        let labels = state.encoders.as_ref().map(|encoder| encoder.labels());
        let metadata = ("labels", serde_json::to_string(&labels).expect("labels are strings"));
        let model = weights::serialise(model.parameters(), metadata)?;
        let optimizer = safetensors::serialize(optimizer.state()?, None)
            .map_err(|e| Error::BadFile { path: path.join(OPTIMIZER), message: e.to_string() })?;
        let state = serde_json::to_string_pretty(state).expect("a state is JSON");
        files::replace_dir(path, |dir| {
            files::write_atomic(&dir.join(MODEL), &model)?;
            files::write_atomic(&dir.join(OPTIMIZER), &optimizer)?;
            files::write_atomic(&dir.join(STATE), state.as_bytes())?;
            Ok(())
        })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the part that is not tensors.
    ///
    /// # Errors
    /// It is damaged, or of another version.
    pub fn state(&self) -> Result<State> {
        let path = self.path.join(STATE);
        let bad = |message| Error::BadFile { path: path.clone(), message };
        let state: State = serde_json::from_slice(&fs_err::read(&path)?).map_err(|e| bad(e.to_string()))?;
        if state.format != FORMAT {
            return Err(bad(format!("expected format {FORMAT}, found {}", state.format)));
        }
        Ok(state)
    }

    /// Fills a model with its parameters and statistics.
    ///
    /// # Errors
    /// The file is damaged or of another network.
    pub fn load_model(&self, model: &mut FaceModel) -> Result<()> {
        weights::load(&self.path.join(MODEL), weights::Scope::Model, model.parameters_mut())?;
        Ok(())
    }

    /// Fills an optimiser with its state after `steps` steps.
    ///
    /// # Errors
    /// The file is damaged or of another optimiser or network.
    pub fn load_optimizer(&self, optimizer: &mut Optimizer, steps: u64) -> Result<()> {
        let path = self.path.join(OPTIMIZER);
        let tensors = candle_core::safetensors::load_buffer(&fs_err::read(&path)?, &Device::Cpu)
            .map_err(|e| Error::BadFile { path: path.clone(), message: e.to_string() })?;
        optimizer
            .restore(steps, |name| {
                let missing = || Error::BadFile {
                    path: path.clone(),
                    message: format!("expected a tensor {name}, found none"),
                };
                tensors.get(name).cloned().ok_or_else(missing)
            })
            .map_err(|e| match e {
                Error::StateLength { .. } => Error::BadFile { path: path.clone(), message: e.to_string() },
                other => other,
            })
    }
}

impl State {
    /// The state of a run that stands at `position`.
    pub fn new(position: Position, encoders: Encoders) -> Self {
        Self { format: FORMAT, position, encoders }
    }
}

/// One head a task, sized by the encoders.
pub fn heads(encoders: &Encoders) -> Vec<HeadSpec> {
    encoders.iter().map(|(task, encoder)| HeadSpec::new(task.name(), encoder.n_classes())).collect()
}
