//! How batches are made: their size, the threads, the depth of the queue.

use serde::{Deserialize, Serialize};

use crate::{
    dataset::{Dataset, Mode},
    error::{Error, Result},
};

/// How batches are made. `workers` and `prefetch` do not change what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Samples per batch.
    pub batch_size: usize,
    /// Threads that decode and augment.
    pub workers: usize,
    /// Batches made ahead of the consumer.
    pub prefetch: usize,
    /// What happens to the samples that do not fill a batch.
    pub last_batch: LastBatch,
    /// How images lie in a batch.
    pub layout: Layout,
    /// What happens when an image cannot be used.
    pub on_bad_image: OnBadImage,
}

/// How images lie in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `(B,3,H,W)` f32, augmented and normalised: for candle and for the CPU engine's stem.
    #[default]
    Planes,
    /// `(B,H,W,3)` u8 as decoded, with what augmentation drew: for a device that augments itself.
    Pixels,
}

/// What happens when an image is missing or does not decode. Whatever is not the image's fault, as too many open files
/// or a broken disk, ends the epoch all the same ([`Error::is_bad_image`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadImage {
    /// The epoch ends with an error that names it.
    #[default]
    Fail,
    /// It is left out and listed ([`Loader::skipped`](super::Loader::skipped)). Nothing takes its place: the batch has
    /// one sample less, and no other batch changes. A batch of nothing but bad images is left out where every sample is
    /// kept ([`LastBatch::Keep`]); where batches are full it is an error, since something larger must be wrong.
    Skip,
}

/// What happens to the samples at the end of an epoch that do not fill a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBatch {
    /// They are left out of this epoch: batch statistics of a handful of samples would harm training.
    Drop,
    /// They make a smaller batch.
    Keep,
}

impl LoaderConfig {
    /// Batches made ahead of the consumer unless asked otherwise.
    pub const PREFETCH: usize = 4;

    /// Drops the last partial batch.
    pub fn train(batch_size: usize) -> Self {
        let workers = default_workers();
        LoaderConfig {
            batch_size,
            workers,
            prefetch: Self::PREFETCH,
            last_batch: LastBatch::Drop,
            layout: Layout::Planes,
            on_bad_image: OnBadImage::Fail,
        }
    }

    /// Keeps every sample.
    pub fn eval(batch_size: usize) -> Self {
        LoaderConfig { last_batch: LastBatch::Keep, ..Self::train(batch_size) }
    }

    /// The same with another number of threads.
    #[must_use]
    pub fn with_workers(self, workers: usize) -> Self {
        LoaderConfig { workers, ..self }
    }

    /// The same with another queue depth.
    #[must_use]
    pub fn with_prefetch(self, prefetch: usize) -> Self {
        LoaderConfig { prefetch, ..self }
    }

    /// The same with another layout.
    #[must_use]
    pub fn with_layout(self, layout: Layout) -> Self {
        LoaderConfig { layout, ..self }
    }

    /// The same with another way to treat bad images.
    #[must_use]
    pub fn with_on_bad_image(self, on_bad_image: OnBadImage) -> Self {
        LoaderConfig { on_bad_image, ..self }
    }

    /// Batches in an epoch of `n_samples`.
    pub fn n_batches(&self, n_samples: usize) -> usize {
        match self.last_batch {
            LastBatch::Drop => n_samples / self.batch_size,
            LastBatch::Keep => n_samples.div_ceil(self.batch_size),
        }
    }

    pub(super) fn check(&self, dataset: &Dataset) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        for (name, value) in [
            ("batch size", self.batch_size),
            ("worker count", self.workers),
            ("prefetch depth", self.prefetch),
        ] {
            if value == 0 {
                return wrong(format!("expected a {name} of at least 1, found 0"));
            }
        }
        if dataset.mode() == Mode::Eval && self.last_batch == LastBatch::Drop {
            return wrong("expected every sample in evaluation, found LastBatch::Drop".to_owned());
        }
        if self.n_batches(dataset.len()) == 0 {
            let (path, rows) = (dataset.manifest().path().display(), dataset.len());
            let size = self.batch_size;
            return wrong(format!(
                "{path}: expected rows for at least one batch of {size}, found {rows} rows"
            ));
        }
        Ok(())
    }
}

/// `min(8, max(2, cpus - 2))`: two CPUs are left to the consumer where there are enough.
pub fn default_workers() -> usize {
    workers_for(std::thread::available_parallelism().map_or(2, usize::from))
}

fn workers_for(cpus: usize) -> usize {
    cpus.saturating_sub(2).clamp(2, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_follow_the_cpus() {
        assert_eq!([1, 2, 4, 5, 10, 64].map(workers_for), [2, 2, 2, 3, 8, 8]);
    }
}
