//! Checkpoints: everything that continuing or using a run needs, in one folder that is replaced whole.
//!
//! `model.safetensors` (parameters and BatchNorm statistics under torchvision's names, labels in its metadata),
//! `model_ema.safetensors` (their moving average, where the run keeps one), `state.safetensors` (the optimiser's
//! tensors), `state.json` ([`State`], with the SHA-256 of all of them). A file that is not what was written is refused
//! by name, before anything changes. Before the first step there is nothing but the model to keep.

mod state;

use std::path::{Path, PathBuf};

use candle_core::Device;
use ff_core::Encoders;
use ff_core::files::{self, sha256};
use ff_model::{FaceModel, weights};
use safetensors::{Dtype, SafeTensors};

pub use state::State;
use state::{FORMAT, STATE};

use crate::learner::Learner;
use crate::position::Position;
use crate::{Error, Result};

const MODEL: &str = "model.safetensors";
const AVERAGE: &str = "model_ema.safetensors";
const OPTIMIZER: &str = "state.safetensors";

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
    ///
    /// # Errors
    /// [`Error::NonFiniteWeights`] names a tensor of the model that must not be kept; else the disk.
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
        let mut contents = vec![(MODEL, model(learner)?)];
        if position.step > 0 {
            let state = safetensors::serialize(learner.optimizer.state()?, None).map_err(state_error)?;
            contents.push((OPTIMIZER, state));
            if learner.average.is_some() {
                learner.swap_average()?;
                let average = model(learner);
                learner.swap_average()?;
                contents.push((AVERAGE, average?));
            }
        }
        for (name, bytes) in contents.iter().filter(|(name, _)| *name != OPTIMIZER) {
            if let Some(tensor) = not_finite(bytes) {
                return Err(Error::NonFiniteWeights { path: path.join(name), tensor });
            }
        }
        let state = State {
            format: FORMAT,
            position,
            encoders: encoders.clone(),
            train_split: train_split.to_owned(),
            optimizer_steps: learner.optimizer.steps(),
            uncertainty: learner.objective.learnt(),
            groups: learner.objective.group_weights().cloned(),
            teacher: learner.objective.teacher().map(ToOwned::to_owned),
            averaged: learner.averaged(),
            sha256: contents.iter().map(|(name, bytes)| ((*name).to_owned(), sha256(bytes))).collect(),
        };
        contents.push((STATE, state.to_text().into_bytes()));
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
    /// It is damaged, of a newer version, or says what cannot be.
    pub fn state(&self) -> Result<State> {
        let path = self.path.join(STATE);
        State::from_text(&fs_err::read_to_string(&path)?).map_err(|message| Error::BadFile { path, message })
    }

    /// Whether every file is as it was written.
    ///
    /// # Errors
    /// [`Error::BadFile`] names the first that is not.
    pub fn verify(&self) -> Result<()> {
        // The state has vouched for itself when it was read.
        let files = self.state()?.sha256.into_iter().filter(|(name, _)| name != STATE);
        files.into_iter().try_for_each(|(name, sha256)| self.verify_file(&name, &sha256))
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
        if state.sha256.contains_key(AVERAGE) {
            parameters(learner, AVERAGE)?;
            learner.restore_average(state.averaged)?;
            parameters(learner, MODEL)?;
            if learner.average.is_none() {
                // It was of the other kind.
                learner.begin_average()?;
            }
        } else {
            parameters(learner, MODEL)?;
            learner.begin_average()?;
        }
        learner.objective.restore(state.uncertainty.clone());
        learner.objective.restore_groups(state.groups.clone());
        if state.position.step == 0 {
            return Ok(state);
        }

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

#[cfg(test)]
impl Checkpoint {
    /// Writes one of nothing but a position: enough for whoever only looks at which checkpoints there are.
    pub(crate) fn write_position(path: &Path, position: Position) -> Result<()> {
        let fixture = include_str!("../../../tests/fixtures/format-2/checkpoints/last/state.json");
        let state = State::from_text(fixture).expect("it is read in a test of its own");
        let optimizer_steps = Default::default();
        let state = State { format: FORMAT, position, optimizer_steps, sha256: Default::default(), ..state };
        files::replace_dir(path, |dir| Ok(files::write_atomic(&dir.join(STATE), state.to_text().as_bytes())?))
    }
}

/// The first tensor of a safetensors file that has a value which is not finite.
fn not_finite(bytes: &[u8]) -> Option<String> {
    let file = SafeTensors::deserialize(bytes).expect("it was serialised here");
    let finite = |data: &[u8]| {
        data.chunks_exact(4)
            .all(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).is_finite())
    };
    let mut floats = file.iter().filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
    floats.find(|(_, tensor)| !finite(tensor.data())).map(|(name, _)| name.to_owned())
}
