//! Batches of an epoch, made ahead by worker threads.
//!
//! Workers share out the images of the batch at hand, each written straight to its place in the batch's slot, and go on
//! with the next batch when it has none left. So the first batch arrives as fast as all workers can make it, nobody
//! waits for the slowest image, and memory is bounded: `prefetch` batches and the consumer's own. All threads live as
//! long as the [`Loader`] and are joined when it is dropped.
//!
//! Invariant: what is in a batch is a function of (dataset, epoch, batch index) and the batch size. Worker count,
//! speed, queue depth, cache and where the epoch was entered change nothing; of several broken images in a batch, the
//! first by position is reported.

mod batch;
mod config;
mod in_flight;
mod read_ahead;
mod slots;
mod workers;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use batch::{Batch, BatchImages};
pub use config::{LastBatch, Layout, LoaderConfig, OnBadImage, default_workers};
pub use slots::{Memory, Slot, SlotMemory};

use crate::{
    dataset::{Dataset, StageTimes},
    error::{Error, Result},
};
use in_flight::Finished;
use workers::Shared;

/// Makes the batches of a dataset.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    wait: Duration,
    skipped: BTreeMap<u32, String>,
}

impl Loader {
    /// Starts the threads; nothing is read before [`Loader::epoch`].
    ///
    /// # Errors
    /// A zero in the configuration; dropping samples in evaluation; fewer rows than one batch; threads that do not
    /// start.
    pub fn new(dataset: Arc<Dataset>, config: LoaderConfig) -> Result<Self> {
        Self::over(None, dataset, config)
    }

    /// As [`Loader::new`], with pixels ([`Layout::Pixels`]) in memory that `memory` allocates. What is in the batches
    /// is the same.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn with_memory(
        memory: Arc<dyn SlotMemory>,
        dataset: Arc<Dataset>,
        config: LoaderConfig,
    ) -> Result<Self> {
        Self::over(Some(memory), dataset, config)
    }

    fn over(
        pixels: Option<Arc<dyn SlotMemory>>,
        dataset: Arc<Dataset>,
        config: LoaderConfig,
    ) -> Result<Self> {
        config.check(&dataset)?;
        let shared = Shared::new(dataset, config, pixels);
        let mut loader = Loader { shared, workers: vec![], wait: Duration::ZERO, skipped: BTreeMap::new() };
        for i in 0..config.workers {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("ff-data worker {i}"));
            loader.workers.push(thread.spawn(move || shared.work())?);
        }
        Ok(loader)
    }

    /// The batches of an epoch from `first_batch` on (0 for the whole epoch; the next one to resume). Work starts at
    /// once; dropping the iterator stops it.
    pub fn epoch(&mut self, epoch: u64, first_batch: usize) -> Epoch<'_> {
        self.batches(epoch, first_batch..self.n_batches())
    }

    /// Some batches of an epoch, by their places in it; no image of another one is touched.
    ///
    /// # Panics
    /// A place that is not in the epoch.
    pub fn batches(&mut self, epoch: u64, places: impl IntoIterator<Item = usize>) -> Epoch<'_> {
        let (n, places) = (self.n_batches(), VecDeque::from_iter(places));
        assert!(places.iter().all(|&place| place < n), "expected places of the {n} batches of an epoch");
        if !places.is_empty() {
            self.shared.start(epoch, places.clone());
        }
        Epoch { epoch, places, wait: Duration::ZERO, loader: self }
    }

    /// Batches in a whole epoch.
    pub fn n_batches(&self) -> usize {
        self.shared.config.n_batches(self.dataset().len())
    }

    /// The data.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.shared.dataset
    }

    /// The configuration.
    pub fn config(&self) -> LoaderConfig {
        self.shared.config
    }

    /// How long consumers have waited for batches so far, over all epochs.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// What workers have spent their time on so far, batch by batch as they finish them.
    pub fn times(&self) -> StageTimes {
        self.shared.times()
    }

    /// Batch-sized image buffers made so far: at most `prefetch + 1` and as many as the consumer keeps.
    pub fn slots_made(&self) -> usize {
        self.shared.rings.slots_made()
    }

    /// Bad images that were skipped so far ([`OnBadImage::Skip`]), over all epochs: sample and reason, which names the
    /// file.
    pub fn skipped(&self) -> &BTreeMap<u32, String> {
        &self.skipped
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in self.workers.drain(..) {
            // A panic in there was already seen as `Error::LoaderStopped`.
            let _ = worker.join();
        }
    }
}

/// The batches of one epoch, in order. After an error there are none.
pub struct Epoch<'l> {
    epoch: u64,
    /// Of the batches that are still to come.
    places: VecDeque<usize>,
    wait: Duration,
    loader: &'l mut Loader,
}

impl Epoch<'_> {
    /// How long the consumer has waited in `next` so far in this epoch.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// What workers have spent their time on so far, over all epochs.
    pub fn times(&self) -> StageTimes {
        self.loader.times()
    }

    fn batch(&mut self, batch_idx: usize) -> Result<Batch> {
        let shared = &self.loader.shared;
        let stopped = Error::LoaderStopped { epoch: self.epoch, batch_idx };
        let finished =
            shared.next().and_then(|batch| batch.finish(&shared.dataset, shared.config.on_bad_image));
        let Finished { batch, mut failures } = finished.unwrap_or(Err(stopped))?;
        if batch.is_empty() && shared.config.last_batch == LastBatch::Drop {
            return Err(failures.swap_remove(0).1);
        }
        let failures = failures.into_iter().map(|(sample_idx, error)| (sample_idx, error.to_string()));
        self.loader.skipped.extend(failures);
        Ok(batch)
    }
}

impl Iterator for Epoch<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        while let Some(place) = self.places.pop_front() {
            let start = Instant::now();
            let batch = self.batch(place);
            let waited = start.elapsed();
            self.wait += waited;
            self.loader.wait += waited;
            if batch.is_err() {
                self.places.clear();
            }
            // Nothing but skipped images.
            if !batch.as_ref().is_ok_and(Batch::is_empty) {
                return Some(batch);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.places.len()))
    }
}

impl Drop for Epoch<'_> {
    fn drop(&mut self) {
        self.loader.shared.cancel();
    }
}
