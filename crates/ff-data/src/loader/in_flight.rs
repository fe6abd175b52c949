//! A batch that workers fill: its memory, handed out image by image, and what went wrong.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ff_core::text::panic_message;
use ff_kernels::host::claims::{Claim, Claims};

use super::{
    Batch, BatchImages, Layout, LoaderConfig, OnBadImage,
    read_ahead::{DISTANCE, ReadAhead},
    slots::{Ring, Slot, SlotMemory},
};
use crate::{
    dataset::{Dataset, Scratch},
    error::{Error, Result},
    order::EpochOrder,
};

/// The slots of all batches, in the loader's layout.
pub(super) enum SlotRings {
    Planes(Arc<Ring<f32>>),
    Pixels(Arc<Ring<u8>>),
}

impl SlotRings {
    /// `pixels` is where the memory of pixels comes from, if not from the heap.
    pub(super) fn new(
        config: &LoaderConfig,
        n_samples: usize,
        image_len: usize,
        pixels: Option<Arc<dyn SlotMemory>>,
    ) -> Self {
        let (len, capacity) = (config.batch_size.min(n_samples) * image_len, config.prefetch + 1);
        match (config.layout, pixels) {
            (Layout::Planes, _) => SlotRings::Planes(Ring::new(len, capacity)),
            (Layout::Pixels, None) => SlotRings::Pixels(Ring::new(len, capacity)),
            (Layout::Pixels, Some(memory)) => SlotRings::Pixels(Ring::over(memory, len, capacity)),
        }
    }

    pub(super) fn slots_made(&self) -> usize {
        match self {
            SlotRings::Planes(ring) => ring.made(),
            SlotRings::Pixels(ring) => ring.made(),
        }
    }
}

/// A slot whose images are claimed one by one.
struct Filling<T> {
    claims: Claims<T>,
    ring: Arc<Ring<T>>,
}

impl<T> Filling<T> {
    fn new(ring: &Arc<Ring<T>>, image_len: usize, n: usize) -> Self {
        Filling { claims: Claims::new(ring.take(), image_len, n), ring: Arc::clone(ring) }
    }

    fn finish(&self, len: usize) -> Option<Slot<T>> {
        Some(Slot::new(self.claims.take()?, len, Arc::clone(&self.ring)))
    }
}

impl<T> Drop for Filling<T> {
    fn drop(&mut self) {
        // A batch that nobody wanted any more: its memory is for another one.
        if let Some(memory) = self.claims.reclaim() {
            self.ring.give_back(memory);
        }
    }
}

enum Parts {
    Planes(Filling<f32>),
    Pixels(Filling<u8>),
}

/// An image of a batch, one worker's to fill.
pub(super) enum ImageClaim<'a> {
    Planes(Claim<'a, f32>),
    Pixels(Claim<'a, u8>),
}

/// A batch in the making.
pub(super) struct InFlight {
    epoch: u64,
    batch_idx: usize,
    indices: Vec<u32>,
    /// The sample [`DISTANCE`] places after each of `indices`; shorter towards the last batch.
    ahead: Vec<u32>,
    parts: Parts,
    failures: Mutex<Vec<(usize, Error)>>,
    cancelled: Arc<AtomicBool>,
}

/// A batch and the images that are missing from it.
pub(super) struct Finished {
    pub(super) batch: Batch,
    /// By sample, in the order of the batch.
    pub(super) failures: Vec<(u32, Error)>,
}

/// Which samples of an epoch a batch has, and which come after it.
pub(super) struct BatchOrder<'a> {
    pub(super) epoch: u64,
    pub(super) order: &'a EpochOrder,
    /// The batch's place in the epoch.
    pub(super) place: usize,
    /// Those of the batches after it.
    pub(super) later: &'a VecDeque<usize>,
}

impl InFlight {
    pub(super) fn new(
        rings: &SlotRings,
        dataset: &Dataset,
        BatchOrder { epoch, order, place, later }: BatchOrder<'_>,
        batch_size: usize,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let indices = order.batch(place, batch_size).to_vec();
        let from_here = std::iter::once(&place).chain(later);
        let coming = from_here.flat_map(|&place| order.batch(place, batch_size));
        let ahead = coming.skip(DISTANCE).take(indices.len()).copied().collect();
        let parts = match rings {
            SlotRings::Planes(ring) => Parts::Planes(Filling::new(ring, dataset.image_len(), indices.len())),
            SlotRings::Pixels(ring) => Parts::Pixels(Filling::new(ring, dataset.image_len(), indices.len())),
        };
        InFlight { epoch, batch_idx: place, indices, ahead, parts, failures: Mutex::default(), cancelled }
    }

    /// The next image that nobody fills yet.
    pub(super) fn claim(&self) -> Option<ImageClaim<'_>> {
        match &self.parts {
            Parts::Planes(filling) => filling.claims.claim().map(ImageClaim::Planes),
            Parts::Pixels(filling) => filling.claims.claim().map(ImageClaim::Pixels),
        }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        match &self.parts {
            Parts::Planes(filling) => filling.claims.is_exhausted(),
            Parts::Pixels(filling) => filling.claims.is_exhausted(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.parts {
            Parts::Planes(filling) => filling.claims.is_complete(),
            Parts::Pixels(filling) => filling.claims.is_complete(),
        }
    }

    /// Makes one image, or notes why it cannot be made. A panic ends the epoch, not the worker; one of the decoder on a
    /// malformed file was that file's error before it came here.
    pub(super) fn fill(
        &self,
        mut image: ImageClaim<'_>,
        dataset: &Dataset,
        scratch: &mut Scratch,
        read_ahead: &mut ReadAhead,
    ) {
        if self.cancelled.load(Ordering::Relaxed) {
            return;
        }
        let position = match &image {
            ImageClaim::Planes(claim) => claim.part(),
            ImageClaim::Pixels(claim) => claim.part(),
        };
        if read_ahead.is_wanted()
            && let Some(&later) = self.ahead.get(position)
        {
            dataset.read_ahead(later as usize);
        }
        let sample_idx = self.indices[position] as usize;
        let load = AssertUnwindSafe(|| match &mut image {
            ImageClaim::Planes(claim) => dataset.load(self.epoch, sample_idx, scratch, claim),
            ImageClaim::Pixels(claim) => dataset.load_pixels(sample_idx, scratch, claim),
        });
        let loaded = catch_unwind(load).unwrap_or_else(|panic| {
            Err(dataset.image_error(sample_idx, Error::Panicked(panic_message(&*panic).to_owned())))
        });
        if let Err(error) = loaded {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((position, error));
        }
        if let Some(read) = scratch.take_file_read() {
            read_ahead.note(read);
        }
        // Only now does the image count as done: its failure is noted.
        drop(image);
    }

    /// The batch, once, when every image is made or given up. Images that could not be made are taken out.
    pub(super) fn finish(&self, dataset: &Dataset, policy: OnBadImage) -> Option<Result<Finished>> {
        let image_len = dataset.image_len();
        let len = self.indices.len() * image_len;
        let mut images = match &self.parts {
            Parts::Planes(filling) => BatchImages::Planes(filling.finish(len)?),
            Parts::Pixels(filling) => BatchImages::Pixels(filling.finish(len)?),
        };
        let mut failures = std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner));
        failures.sort_by_key(|(position, _)| *position);
        let ends_the_epoch =
            |(_, error): &(usize, Error)| policy == OnBadImage::Fail || !error.is_bad_image();
        if let Some(first) = failures.iter().position(ends_the_epoch) {
            return Some(Err(failures.swap_remove(first).1));
        }
        let mut indices = self.indices.clone();
        for (position, _) in failures.iter().rev() {
            indices.remove(*position);
            match &mut images {
                BatchImages::Planes(slot) => slot.remove_part(*position, image_len),
                BatchImages::Pixels(slot) => slot.remove_part(*position, image_len),
            }
        }
        let failures = failures.into_iter().map(|(at, error)| (self.indices[at], error)).collect();
        let (n, size) = (indices.len(), dataset.size());
        let shape = match &images {
            BatchImages::Planes(_) => [n, 3, size.height, size.width],
            BatchImages::Pixels(_) => [n, size.height, size.width, 3],
        };
        let each = || indices.iter().map(|&i| i as usize);
        let batch = Batch {
            images,
            shape,
            augment: each().map(|i| dataset.augment_params(self.epoch, i)).collect(),
            targets: dataset.targets().each(|_, ids| each().map(|i| ids[i]).collect()),
            files: each().map(|i| dataset.manifest().rows()[i].file.clone()).collect(),
            sample_indices: indices,
            epoch: self.epoch,
            batch_idx: self.batch_idx,
        };
        Some(Ok(Finished { batch, failures }))
    }
}
