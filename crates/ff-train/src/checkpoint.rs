//! Checkpoints: everything that continuing or using a run needs, in one folder that is replaced whole.
//!
//! `model.safetensors` (parameters and BatchNorm statistics under torchvision's names, labels in its metadata),
//! `model_ema.safetensors` (their moving average, where the run keeps one), `state.safetensors` (the optimiser's
//! tensors), `state.json` ([`State`], with the SHA-256 of the others). A file that is not what was written is refused
//! by name, before anything changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use ff_core::files::{self, sha256};
use ff_data::Encoders;
use ff_model::{FaceModel, HeadSpec, weights};
use serde::{Deserialize, Serialize};

use crate::losses::Uncertainty;
use crate::optimizer::Steps;
use crate::trainer::Learner;
use crate::{Error, Result};

/// Version of the format; others are refused.
const FORMAT: u32 = 2;
const MODEL: &str = "model.safetensors";
const AVERAGE: &str = "model_ema.safetensors";
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
    /// The best epoch's score so far, by `[train] criterion`.
    pub best: Option<f64>,
    /// Epochs since then.
    pub epochs_since_best: u64,
    /// Steps that changed nothing, because the loss or gradient was not finite.
    pub skipped: u64,
    /// Those of them in a row, up to now.
    pub skipped_in_a_row: u64,
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
    /// SHA-256 of the training split: a position in an epoch means nothing in another one.
    pub train_split: String,
    /// Steps that the optimiser has taken.
    pub optimizer_steps: Steps,
    /// Learnt task weights, if any.
    pub uncertainty: Option<Uncertainty>,
    /// SHA-256 of the checkpoint's other files.
    sha256: BTreeMap<String, String>,
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
    pub fn write(
        path: &Path,
        learner: &mut Learner,
        position: Position,
        encoders: &Encoders,
        train_split: &str,
    ) -> Result<()> {
        let labels = encoders.as_ref().map(|encoder| encoder.labels());
        let labels = serde_json::to_string(&labels).expect("labels are strings");
        let model =
            |learner: &Learner| weights::serialise(learner.model.parameters(), ("labels", labels.clone()));
        let state_error = |e: safetensors::SafeTensorError| Error::BadFile {
            path: path.join(OPTIMIZER),
            message: e.to_string(),
        };
        let mut contents = vec![
            (MODEL, model(learner)?),
            (OPTIMIZER, safetensors::serialize(learner.optimizer.state()?, None).map_err(state_error)?),
        ];
        if learner.average.is_some() {
            learner.swap_average()?;
            let average = model(learner);
            learner.swap_average()?;
            contents.push((AVERAGE, average?));
        }
        let state = State {
            format: FORMAT,
            position,
            encoders: encoders.clone(),
            train_split: train_split.to_owned(),
            optimizer_steps: learner.optimizer.steps(),
            uncertainty: learner.objective.learnt(),
            sha256: contents.iter().map(|(name, bytes)| ((*name).to_owned(), sha256(bytes))).collect(),
        };
        let state = serde_json::to_string_pretty(&state).expect("a state is JSON");
        contents.push((STATE, state.into_bytes()));
        files::replace_dir(path, |dir| {
            contents.iter().try_for_each(|(name, bytes)| Ok(files::write_atomic(&dir.join(name), bytes)?))
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

    /// Whether every file is as it was written.
    ///
    /// # Errors
    /// [`Error::BadFile`] names the first that is not.
    pub fn verify(&self) -> Result<()> {
        self.state()?.sha256.iter().try_for_each(|(name, sha256)| self.verify_file(name, sha256))
    }

    fn verify_file(&self, name: &str, expected: &str) -> Result<()> {
        let path = self.path.join(name);
        let found = sha256(&fs_err::read(&path)?);
        let message = format!("expected SHA-256 {expected}, found {found}: the file is damaged");
        if found == expected { Ok(()) } else { Err(Error::BadFile { path, message }) }
    }

    /// Fills a model for use: with the moving average where the run kept one, else with the weights.
    ///
    /// # Errors
    /// The file is damaged or of another network.
    pub fn load_model(&self, model: &mut FaceModel) -> Result<()> {
        let files = self.state()?.sha256;
        let name = if files.contains_key(AVERAGE) { AVERAGE } else { MODEL };
        if let Some(sha256) = files.get(name) {
            self.verify_file(name, sha256)?;
        }
        weights::load(&self.path.join(name), weights::Scope::Model, model.parameters_mut())?;
        Ok(())
    }

    /// Fills a learner with all that it had when the checkpoint was written, and gives the rest.
    ///
    /// # Errors
    /// A file is damaged, missing, or of another optimiser or network.
    pub fn restore(&self, learner: &mut Learner) -> Result<State> {
        self.verify()?;
        let state = self.state()?;
        let parameters = |learner: &mut Learner, name| {
            weights::load(&self.path.join(name), weights::Scope::Model, learner.model.parameters_mut())
        };
        if self.path.join(AVERAGE).is_file() {
            parameters(learner, AVERAGE)?;
            learner.begin_average()?;
            parameters(learner, MODEL)?;
        } else {
            parameters(learner, MODEL)?;
            learner.begin_average()?;
        }
        learner.objective.restore(state.uncertainty);

        let path = self.path.join(OPTIMIZER);
        let bad = |message| Error::BadFile { path: path.clone(), message };
        let tensors = candle_core::safetensors::load_buffer(&fs_err::read(&path)?, &Device::Cpu)
            .map_err(|e| bad(e.to_string()))?;
        let restored = learner.optimizer.restore(state.optimizer_steps, |name| {
            tensors.get(name).cloned().ok_or_else(|| bad(format!("expected a tensor {name}, found none")))
        });
        restored.map_err(|e| match e {
            Error::StateLength { .. } => bad(e.to_string()),
            other => other,
        })?;
        Ok(state)
    }
}

/// One head a task, sized by the encoders.
pub fn heads(encoders: &Encoders) -> Vec<HeadSpec> {
    encoders.iter().map(|(task, encoder)| HeadSpec::new(task.name(), encoder.n_classes())).collect()
}
