//! A batch, and the ring of image memory behind it.
//!
//! The ring never blocks: a consumer that keeps many batches gets fresh memory for them instead of a deadlock. What
//! bounds memory is that no more than the prefetch depth is made ahead of the consumer.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::task::PerTask;

/// Some samples of an epoch, ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// Normalised images, `(B,3,H,W)` row-major. Deref to `[f32]`; dropping it hands the memory back to the loader.
    pub images: BatchImages,
    /// `[B, 3, H, W]`.
    pub shape: [usize; 4],
    /// Class ids, each `(B)`; each empty for a dataset without labels.
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

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.sample_indices.len()
    }

    /// Never true for a loader's batch.
    pub fn is_empty(&self) -> bool {
        self.sample_indices.is_empty()
    }
}

/// Image memory that goes back to its loader when dropped.
pub struct BatchImages {
    values: Vec<f32>,
    ring: Arc<Ring>,
}

impl BatchImages {
    /// Takes the memory for good: the loader will allocate another slot.
    pub fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

impl Deref for BatchImages {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for BatchImages {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl fmt::Debug for BatchImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchImages({} values)", self.values.len())
    }
}

impl Drop for BatchImages {
    fn drop(&mut self) {
        if self.values.capacity() > 0 {
            self.ring.give_back(std::mem::take(&mut self.values));
        }
    }
}

/// Slots that wait for their next batch.
pub(super) struct Ring {
    free: Mutex<Vec<Vec<f32>>>,
    capacity: usize,
    made: AtomicUsize,
}

impl Ring {
    /// Keeps up to `capacity` slots for later.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Ring { free: Mutex::default(), capacity, made: AtomicUsize::new(0) })
    }

    /// A slot of `len` values without particular contents.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> BatchImages {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut values = free.unwrap_or_else(|| {
            self.made.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        });
        values.resize(len, 0.0);
        BatchImages { values, ring: Arc::clone(self) }
    }

    fn give_back(&self, values: Vec<f32>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.capacity {
            free.push(values);
        }
    }

    /// How many slots were ever allocated.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}
