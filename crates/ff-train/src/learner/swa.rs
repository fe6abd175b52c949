//! Stochastic weight averaging: whole epochs' weights, averaged alike.
//!
//! Which epochs are in the average is known by the step after which the last one was taken in: who evaluates an epoch
//! anew, after a kill, takes it in once. BatchNorm's statistics are not averaged but found again, as
//! `torch.optim.swa_utils.update_bn` does: the plain mean of what training batches have under the averaged weights.

use candle_core::Tensor;
use ff_model::{BackboneMode, Dropout, FaceModel};
use serde::{Deserialize, Serialize};

use super::Learner;
use crate::Result;
use crate::feed::{Feeder, InputBatch};
use crate::optim::average::Average;
use crate::ranks::Ranks;

/// Batches that statistics are found on: more say hardly anything else.
const MOST_BATCHES: usize = 100;

/// What is in an average of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AveragedEpochs {
    /// Sets of weights.
    pub models: u64,
    /// The step after which the last of them was taken in.
    pub step: u64,
}

impl Learner {
    /// Takes the weights at the end of an epoch, from 1, into their average, if the run keeps one and they are not in
    /// it yet; its statistics are for [`estimate_statistics`]. Gives whether there is an average of epochs now.
    pub fn average_epoch(&mut self, epoch: u64, step: u64) -> Result<bool> {
        let Some(first) = self.config.optimizer.swa_from else { return Ok(false) };
        let before = self.averaged;
        if epoch >= first && before.is_none_or(|before| before.step < step) {
            let models = before.map_or(0, |before| before.models);
            match &mut self.average {
                Some(average) => average.take_in(self.model.parameters(), models)?,
                None => self.average = Some(Average::new(None, self.model.parameters())?),
            }
            self.averaged = Some(AveragedEpochs { models: models + 1, step });
        }
        Ok(self.averaged.is_some())
    }
}

/// Puts in place of a model's BatchNorm statistics the mean of what the first batches of an epoch have, shared by
/// ranks.
///
/// # Errors
/// A broken image; a rank is gone.
pub fn estimate_statistics(
    model: &mut FaceModel,
    feeder: &mut Feeder,
    ranks: &mut dyn Ranks,
    epoch: u64,
) -> Result<()> {
    let mode = model.backbone_mode();
    model.set_backbone_mode(BackboneMode::Trainable);
    let found = batch_statistics(model, feeder, ranks, epoch);
    model.set_backbone_mode(mode);
    let Some(mean) = found? else { return Ok(()) };
    let mean: Vec<f32> = mean.into_iter().map(|mean| mean as f32).collect();
    let mean = Tensor::new(mean, model.device())?;
    Ok(model.parameters_mut().update(|_, statistics| statistics.slice_set(&mean, 0, 0))?)
}

/// The mean over batches, in their order, whoever had them; `None` without any.
fn batch_statistics(
    model: &mut FaceModel,
    feeder: &mut Feeder,
    ranks: &mut dyn Ranks,
    epoch: u64,
) -> Result<Option<Vec<f64>>> {
    let n = feeder.loader().n_batches().min(MOST_BATCHES);
    let own = n * ranks.rank() / ranks.size()..n * (ranks.rank() + 1) / ranks.size();
    let no_dropout = Dropout { rate: 0.0, seed: 0, step: 0 };
    let mut here: Vec<Vec<f64>> = Vec::new();
    let mut batches = feeder.batches(epoch, own);
    while let Some(batch) = batches.next() {
        let InputBatch { images, .. } = batch?;
        let images = images.ready(None, model.device())?;
        here.extend(model.forward_train_collecting(images.images(), no_dropout)?.statistics);
        batches.look_ahead();
    }
    let bytes: Vec<u8> = here.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let all = ranks.gather(&bytes)?;
    let mut mean = vec![0.0; model.parameters().statistics_layout().len()];
    let values: Vec<f64> = all
        .iter()
        .flat_map(|bytes| bytes.chunks_exact(size_of::<f64>()))
        .map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        .collect();
    // Fewer than were asked for, where images are skipped.
    let n = (values.len() / mean.len()) as f64;
    for of_batch in values.chunks_exact(mean.len()) {
        mean.iter_mut().zip(of_batch).for_each(|(mean, value)| *mean += value / n);
    }
    Ok((n > 0.0).then_some(mean))
}
