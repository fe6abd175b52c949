//! The thread that makes batches, and its pool of workers.
//!
//! Rayon's pool gives long-lived threads, disjoint regions of a slot without `unsafe`, and stealing image by image,
//! so that one slow read holds up nobody else. The pool's threads are our own, so that they can be joined.

use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    thread::JoinHandle,
};

use rayon::prelude::*;

use super::{Batch, LoaderConfig, batch::Ring};
use crate::{
    dataset::{Dataset, Scratch},
    error::{Error, Result},
    order::EpochOrder,
};

/// Some batches of an epoch.
pub(super) struct Job {
    pub(super) epoch: u64,
    pub(super) range: Range<usize>,
    pub(super) batches: SyncSender<Result<Batch>>,
    pub(super) cancelled: Arc<AtomicBool>,
}

pub(super) struct Coordinator {
    dataset: Arc<Dataset>,
    config: LoaderConfig,
    ring: Arc<Ring>,
    scratch: Vec<Mutex<Scratch>>,
    /// Before `threads`: fields drop in order, and the threads end when the pool is gone.
    pool: rayon::ThreadPool,
    _threads: Joined,
}

impl Coordinator {
    pub(super) fn new(dataset: Arc<Dataset>, config: LoaderConfig, ring: Arc<Ring>) -> Result<Self> {
        let mut threads = Joined(Vec::new());
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.workers)
            .thread_name(|i| format!("ff-data worker {i}"))
            .spawn_handler(|worker| {
                let thread = std::thread::Builder::new().name(worker.name().unwrap_or_default().to_owned());
                threads.0.push(thread.spawn(|| worker.run())?);
                Ok(())
            })
            .build()
            .map_err(|error| Error::Config(format!("loader threads do not start: {error}")))?;
        let scratch = (0..config.workers).map(|_| Mutex::default()).collect();
        Ok(Coordinator { dataset, config, ring, scratch, pool, _threads: threads })
    }

    /// Works until there are no more jobs to come.
    pub(super) fn run(self, jobs: &Receiver<Job>) {
        for job in jobs {
            let order = self.dataset.order(job.epoch);
            for batch_idx in job.range.clone() {
                let batch = self.batch(&job, &order, batch_idx);
                if job.cancelled.load(Ordering::Relaxed) {
                    break;
                }
                let failed = batch.is_err();
                if job.batches.send(batch).is_err() || failed {
                    break;
                }
            }
        }
    }

    fn batch(&self, job: &Job, order: &EpochOrder, batch_idx: usize) -> Result<Batch> {
        let indices = order.batch(batch_idx, self.config.batch_size);
        let image_len = self.dataset.image_len();
        let mut images = self.ring.take(indices.len() * image_len);
        let first_error: Mutex<Option<(usize, Error)>> = Mutex::new(None);

        self.pool.install(|| {
            let work = images.par_chunks_exact_mut(image_len).zip(indices).enumerate().with_max_len(1);
            work.for_each(|(position, (image, &sample_idx))| {
                if job.cancelled.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = self.image(job.epoch, sample_idx as usize, image) {
                    let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(at, _)| position < *at) {
                        *first = Some((position, error));
                    }
                }
            });
        });

        if let Some((_, error)) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let size = self.dataset.size();
        let targets = self.dataset.targets().as_ref();
        let rows = self.dataset.manifest().rows();
        Ok(Batch {
            images,
            shape: [indices.len(), 3, size.height, size.width],
            targets: targets
                .map(|ids| indices.iter().filter_map(|&i| ids.get(i as usize).copied()).collect()),
            files: indices.iter().map(|&i| rows[i as usize].file.clone()).collect(),
            sample_indices: indices.to_vec(),
            epoch: job.epoch,
            batch_idx,
        })
    }

    /// Runs in the pool. A decoder that panics on a malformed file is that file's error, not the run's end.
    fn image(&self, epoch: u64, sample_idx: usize, out: &mut [f32]) -> Result<()> {
        let worker = rayon::current_thread_index().expect("only the pool's threads run its work");
        let mut scratch = self.scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
        let load = AssertUnwindSafe(|| self.dataset.load(epoch, sample_idx, &mut scratch, out));
        catch_unwind(load).unwrap_or_else(|panic| {
            let reason = Error::Decode(format!("the decoder panicked: {}", panic_message(&*panic)));
            Err(self.dataset.image_error(sample_idx, reason))
        })
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Threads that are joined when dropped.
struct Joined(Vec<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // Their panics are caught above, image by image.
            let _ = thread.join();
        }
    }
}
