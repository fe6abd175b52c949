//! Batches of an epoch, made ahead by worker threads.
//!
//! One coordinator thread walks through the epoch's batches; a pool of workers shares out the images of the batch at
//! hand, each written straight to its place in the batch's slot. So the first batch arrives as fast as all workers
//! can make it, and memory is bounded: `prefetch` finished batches and the consumer's own. All threads live as long
//! as the [`Loader`] and are joined when it is dropped.
//!
//! Invariant: what is in a batch is a function of (dataset, epoch, batch index) and the batch size. Worker count,
//! speed, queue depth and where the epoch was entered change nothing; of several broken images in a batch, the first
//! by position is reported.

mod batch;
mod config;
mod coordinator;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use batch::{Batch, BatchImages};
pub use config::{LastBatch, LoaderConfig, default_workers};

use crate::{
    dataset::Dataset,
    error::{Error, Result},
};
use batch::Ring;
use coordinator::{Coordinator, Job};

/// Makes the batches of a dataset.
pub struct Loader {
    dataset: Arc<Dataset>,
    config: LoaderConfig,
    ring: Arc<Ring>,
    wait: Duration,
    /// `None` only while dropping: closing the channel is what ends the coordinator.
    jobs: Option<Sender<Job>>,
    coordinator: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts the threads; nothing is read before [`Loader::epoch`].
    ///
    /// # Errors
    /// A zero in the configuration; dropping samples in evaluation; fewer rows than one batch; threads that do not
    /// start.
    pub fn new(dataset: Arc<Dataset>, config: LoaderConfig) -> Result<Self> {
        config.check(&dataset)?;
        let ring = Ring::new(config.prefetch + 1);
        let coordinator = Coordinator::new(Arc::clone(&dataset), config, Arc::clone(&ring))?;
        let (jobs, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("ff-data loader".to_owned());
        let coordinator = thread.spawn(move || coordinator.run(&receiver))?;
        Ok(Loader {
            dataset,
            config,
            ring,
            wait: Duration::ZERO,
            jobs: Some(jobs),
            coordinator: Some(coordinator),
        })
    }

    /// The batches of an epoch from `first_batch` on (0 for the whole epoch; the next one to resume). Work starts at
    /// once; dropping the iterator stops it.
    pub fn epoch(&mut self, epoch: u64, first_batch: usize) -> Epoch<'_> {
        let end = self.n_batches();
        // One finished batch waits in the coordinator's hands, the others in the channel.
        let (batches, receiver) = mpsc::sync_channel(self.config.prefetch - 1);
        let cancelled = Arc::new(AtomicBool::new(false));
        if let Some(jobs) = &self.jobs {
            let job = Job { epoch, range: first_batch..end, batches, cancelled: Arc::clone(&cancelled) };
            // Where the coordinator is gone the job is dropped, and the epoch's first batch says so.
            let _ = jobs.send(job);
        }
        Epoch { receiver, cancelled, epoch, next_batch: first_batch, end, wait: Duration::ZERO, loader: self }
    }

    /// Batches in a whole epoch.
    pub fn n_batches(&self) -> usize {
        self.config.n_batches(self.dataset.len())
    }

    /// The data.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The configuration.
    pub fn config(&self) -> LoaderConfig {
        self.config
    }

    /// How long consumers have waited for batches so far, over all epochs.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Batch-sized image buffers allocated so far: at most `prefetch + 1` and as many as the consumer keeps.
    pub fn slots_made(&self) -> usize {
        self.ring.made()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(coordinator) = self.coordinator.take() {
            // A panic in there was already seen as `Error::LoaderStopped`.
            let _ = coordinator.join();
        }
    }
}

/// The batches of one epoch, in order. After an error there are none.
pub struct Epoch<'l> {
    receiver: Receiver<Result<Batch>>,
    cancelled: Arc<AtomicBool>,
    epoch: u64,
    next_batch: usize,
    end: usize,
    wait: Duration,
    loader: &'l mut Loader,
}

impl Epoch<'_> {
    /// How long the consumer has waited in `next` so far in this epoch.
    pub fn wait(&self) -> Duration {
        self.wait
    }
}

impl Iterator for Epoch<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.next_batch >= self.end {
            return None;
        }
        let start = Instant::now();
        let stopped = Error::LoaderStopped { epoch: self.epoch, batch_idx: self.next_batch };
        let batch = self.receiver.recv().unwrap_or(Err(stopped));
        let waited = start.elapsed();
        self.wait += waited;
        self.loader.wait += waited;
        self.next_batch = if batch.is_ok() { self.next_batch + 1 } else { self.end };
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.end.saturating_sub(self.next_batch);
        (most.min(1), Some(most))
    }
}

impl Drop for Epoch<'_> {
    fn drop(&mut self) {
        // The workers see the flag after the image at hand; a send into the closed channel fails.
        self.cancelled.store(true, Ordering::Relaxed);
    }
}
