//! A batch, as its consumer sees it.

use ff_core::PerTask;

use super::slots::Slot;
use crate::transforms::AugmentParams;

/// Some samples of an epoch, ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// The images, in the loader's layout.
    pub images: BatchImages,
    /// `[B, 3, H, W]` for planes, `[B, H, W, 3]` for pixels.
    pub shape: [usize; 4],
    /// What augmentation drew for the images, `(B)`: done already in planes, still to be done in pixels.
    pub augment: Vec<AugmentParams>,
    /// Class ids a task, each `(B)`, [`UNKNOWN`](ff_core::UNKNOWN) where the row does not say; of no task for a dataset
    /// without labels.
    pub targets: PerTask<Vec<u32>>,
    /// The samples' `file` fields, `(B)`.
    pub files: Vec<String>,
    /// Which rows of the manifest these are, `(B)`.
    pub sample_indices: Vec<u32>,
    /// The epoch.
    pub epoch: u64,
    /// The batch's place in its epoch, also when the epoch was entered half-way.
    pub batch_idx: usize,
}

/// A batch's images in one of the layouts. Dropping them hands the memory back to the loader.
#[derive(Debug)]
pub enum BatchImages {
    /// `(B,3,H,W)` f32, augmented and normalised.
    Planes(Slot<f32>),
    /// `(B,H,W,3)` u8, as decoded.
    Pixels(Slot<u8>),
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.sample_indices.len()
    }

    /// Never true for a loader's batch.
    pub fn is_empty(&self) -> bool {
        self.sample_indices.is_empty()
    }

    /// The images `(B,3,H,W)` f32.
    ///
    /// # Panics
    /// The loader makes pixels ([`Layout::Pixels`](super::Layout::Pixels)).
    pub fn planes(&self) -> &[f32] {
        match &self.images {
            BatchImages::Planes(values) => values,
            BatchImages::Pixels(_) => panic!("expected a loader that makes planes, found pixels"),
        }
    }

    /// The images `(B,H,W,3)` u8.
    ///
    /// # Panics
    /// The loader makes planes ([`Layout::Planes`](super::Layout::Planes)).
    pub fn pixels(&self) -> &[u8] {
        match &self.images {
            BatchImages::Pixels(values) => values,
            BatchImages::Planes(_) => panic!("expected a loader that makes pixels, found planes"),
        }
    }
}
