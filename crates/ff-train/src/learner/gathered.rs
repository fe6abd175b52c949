//! What the batches of a step come to, here and on all ranks.
//!
//! A rank says of each of its batches what it lost, how many images it had and what its statistics were. Ranks stand in
//! the order of their batches, so the records of all of them, one rank's after the other's, are those of a process that
//! had taken all batches itself.

use candle_core::{Device, Tensor};
use ff_model::host::{with_slice, with_slice_mut};
use serde::{Deserialize, Serialize};

use crate::loss::{GroupLosses, StepLosses};
use crate::ranks::Ranks;
use crate::ranks::tree::TreeSum;
use crate::{Error, Result};

/// The batches of a step, in their order.
#[derive(Default)]
pub struct Gathered {
    pub losses: StepLosses,
    pub files: Vec<String>,
    /// BatchNorm's, a batch: none where the backbone is frozen, or moves the running ones itself.
    pub statistics: Vec<Vec<f64>>,
    /// What each group loses, a batch: none where groups are not weighed.
    pub groups: Vec<GroupLosses>,
    /// The sum of the batches' gradients: all of them where a process that trains alone has several in a step, all but
    /// the last one on a rank.
    gradient: TreeSum<Tensor>,
}

/// What a rank says of its batches.
#[derive(Serialize, Deserialize)]
struct Said {
    batches: Vec<SaidBatch>,
    /// Why there is no step.
    failed: Option<String>,
}

/// A batch, but for its statistics, which follow the text.
#[derive(Serialize, Deserialize)]
struct SaidBatch {
    /// Bits of f32, as not all of them are numbers.
    losses: Vec<u32>,
    images: usize,
    files: Vec<String>,
    /// Bits of f64, as not all of them are numbers; none where groups are not weighed.
    groups: Vec<u64>,
}

impl Gathered {
    /// Adds the gradient (N,) of a batch, whose storage is the next one's too.
    pub fn add_gradient(&mut self, gradient: &Tensor) -> Result<()> {
        let leaf = if self.gradient.is_awaited() { gradient.clone() } else { gradient.copy()? };
        self.gradient.push(leaf, add)
    }

    /// The sum of what was added.
    pub fn take_gradient(&mut self) -> Result<Option<Tensor>> {
        std::mem::take(&mut self.gradient).finish(add)
    }

    /// Adds what was added so far to a part of the next gradient, from this place on, as if that came after it.
    pub fn add_earlier_to(&self, place: usize, part: &mut [f32]) -> Result<()> {
        self.gradient.waiting().try_for_each(|sum| {
            with_slice(sum, |sum| {
                part.iter_mut().zip(&sum[place..]).for_each(|(later, earlier)| *later += earlier);
                Ok(())
            })
            .map_err(Into::into)
        })
    }

    /// Puts the batches of all ranks together, here and everywhere, their losses on `device`. `here` is what became of
    /// this rank's batches.
    ///
    /// # Errors
    /// [`Error::OnRank`] where batches failed, on whichever rank; a rank is gone.
    pub fn over(self, ranks: &mut dyn Ranks, here: Result<()>, device: &Device) -> Result<Self> {
        let said = ranks.gather(&self.said(here.err().map(|e| e.to_string()))?)?;
        let mut all = Self::default();
        said.iter().enumerate().try_for_each(|(rank, bytes)| all.take(rank, bytes, device))?;
        Ok(all)
    }

    fn said(&self, failed: Option<String>) -> Result<Vec<u8>> {
        let mut batches = Vec::new();
        let mut files = self.files.iter();
        let mut groups = self.groups.iter();
        for (losses, images) in self.losses.parts() {
            let losses = losses.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect();
            let files = files.by_ref().take(images).cloned().collect();
            let groups = groups.next().into_iter().flatten().map(|loss| loss.to_bits()).collect();
            batches.push(SaidBatch { losses, images, files, groups });
        }
        let mut bytes = serde_json::to_vec(&Said { batches, failed }).expect("it is JSON");
        // A text has no byte of 0.
        bytes.push(0);
        bytes.extend(self.statistics.iter().flatten().flat_map(|value| value.to_le_bytes()));
        Ok(bytes)
    }

    /// Adds what a rank said.
    fn take(&mut self, rank: usize, bytes: &[u8], device: &Device) -> Result<()> {
        let end = bytes.iter().position(|byte| *byte == 0).expect("it was written above");
        let said: Said = serde_json::from_slice(&bytes[..end]).expect("it was written above");
        if let Some(message) = said.failed {
            return Err(Error::OnRank { rank, message });
        }
        let statistics: Vec<f64> = bytes[end + 1..]
            .chunks_exact(size_of::<f64>())
            .map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")))
            .collect();
        let n = said.batches.len();
        if !statistics.is_empty() {
            self.statistics.extend(statistics.chunks(statistics.len() / n).map(<[f64]>::to_vec));
        }
        for SaidBatch { losses, images, files, groups } in said.batches {
            let losses: Vec<f32> = losses.into_iter().map(f32::from_bits).collect();
            self.losses.push_values(Tensor::new(losses, device)?, images);
            self.files.extend(files);
            if !groups.is_empty() {
                self.groups.push(groups.into_iter().map(f64::from_bits).collect());
            }
        }
        Ok(())
    }
}

/// Adds to the earlier sum, in its place where that is the host's memory.
fn add(earlier: Tensor, later: Tensor) -> Result<Tensor> {
    if !earlier.device().is_cpu() {
        return Ok(earlier.add(&later)?);
    }
    with_slice_mut(&earlier, |earlier| {
        with_slice(&later, |later| {
            earlier.iter_mut().zip(later).for_each(|(earlier, later)| *earlier += later);
            Ok(())
        })
    })?;
    Ok(earlier)
}
