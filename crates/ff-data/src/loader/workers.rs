//! The threads that make images, and the window of batches that they share with the consumer.
//!
//! Workers claim image after image of the batch that was opened last; when it has none left, whoever notices opens the
//! next one, if the window has room. So nobody waits for a batch to be finished, only for the consumer to take one.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    LoaderConfig,
    in_flight::{BatchOrder, InFlight, SlotRings},
    read_ahead::ReadAhead,
    slots::SlotMemory,
};
use crate::{
    dataset::{Dataset, Scratch, StageTimes},
    order::EpochOrder,
};

/// What workers and the consumer share.
pub(super) struct Shared {
    pub(super) dataset: Arc<Dataset>,
    pub(super) config: LoaderConfig,
    pub(super) rings: SlotRings,
    state: Mutex<State>,
    /// There is a batch to open, or nothing more to do ever.
    work: Condvar,
    /// A batch is complete, or a worker is gone.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// The batch that images are claimed from.
    open: Option<Arc<InFlight>>,
    /// Batches not yet taken by the consumer, in order; the last is the open one.
    window: VecDeque<Arc<InFlight>>,
    times: StageTimes,
    stopping: bool,
    /// A worker died of a panic outside an image.
    broken: bool,
}

/// Some batches of an epoch.
struct Job {
    epoch: u64,
    order: EpochOrder,
    /// Of the batches that are not opened yet.
    places: VecDeque<usize>,
    cancelled: Arc<AtomicBool>,
}

impl Shared {
    pub(super) fn new(
        dataset: Arc<Dataset>,
        config: LoaderConfig,
        pixels: Option<Arc<dyn SlotMemory>>,
    ) -> Arc<Self> {
        let rings = SlotRings::new(&config, dataset.len(), dataset.image_len(), pixels);
        let (state, work, ready) = (Mutex::default(), Condvar::new(), Condvar::new());
        Arc::new(Shared { dataset, config, rings, state, work, ready })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with some batches of an epoch, and leaves what was begun before.
    pub(super) fn start(&self, epoch: u64, places: VecDeque<usize>) {
        let (order, cancelled) = (self.dataset.order(epoch), Arc::default());
        self.cancel();
        self.lock().job = Some(Job { epoch, order, places, cancelled });
        self.work.notify_all();
    }

    /// Leaves what was begun. Workers see it after the image at hand.
    pub(super) fn cancel(&self) {
        let mut state = self.lock();
        if let Some(job) = state.job.take() {
            job.cancelled.store(true, Ordering::Relaxed);
        }
        state.open = None;
        let abandoned = std::mem::take(&mut state.window);
        drop(state);
        drop(abandoned);
    }

    /// Ends all workers.
    pub(super) fn stop(&self) {
        self.cancel();
        self.lock().stopping = true;
        self.work.notify_all();
    }

    /// Waits for the next batch; `None` if there will be none.
    pub(super) fn next(&self) -> Option<Arc<InFlight>> {
        let mut state = self.lock();
        loop {
            if state.broken || (state.job.is_none() && state.window.is_empty()) {
                return None;
            }
            if state.window.front().is_some_and(|batch| batch.is_complete()) {
                let batch = state.window.pop_front();
                drop(state);
                self.work.notify_all();
                return batch;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn times(&self) -> StageTimes {
        self.lock().times
    }

    /// A worker's life.
    pub(super) fn work(&self) {
        let _tell = TellWhenBroken(self);
        let mut scratch = Scratch::default();
        let mut read_ahead = ReadAhead::default();
        while let Some(batch) = self.batch_to_fill(scratch.take_times()) {
            while let Some(image) = batch.claim() {
                batch.fill(image, &self.dataset, &mut scratch, &mut read_ahead);
            }
            // Only whoever hands back the last image is sure to see the batch complete; others may see it too.
            if batch.is_complete() {
                // The lock orders this after the consumer's look at the batch, before it began to wait.
                drop(self.lock());
                self.ready.notify_one();
            }
        }
    }

    /// A batch with images to claim; `None` when there will be no more ever.
    fn batch_to_fill(&self, times: StageTimes) -> Option<Arc<InFlight>> {
        let mut state = self.lock();
        state.times += times;
        loop {
            if state.stopping {
                return None;
            }
            if let Some(open) = state.open.as_ref().filter(|open| !open.is_exhausted()) {
                return Some(Arc::clone(open));
            }
            if let Some(batch) = self.open_next(&mut state) {
                return Some(batch);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open_next(&self, state: &mut State) -> Option<Arc<InFlight>> {
        let room = state.window.len() < self.config.prefetch;
        let job = state.job.as_mut().filter(|_| room)?;
        let place = job.places.pop_front()?;
        let order = BatchOrder { epoch: job.epoch, order: &job.order, place, later: &job.places };
        let cancelled = Arc::clone(&job.cancelled);
        let batch =
            Arc::new(InFlight::new(&self.rings, &self.dataset, order, self.config.batch_size, cancelled));
        state.window.push_back(Arc::clone(&batch));
        state.open = Some(Arc::clone(&batch));
        Some(batch)
    }
}

/// Wakes the consumer when a worker dies: it would wait for ever.
struct TellWhenBroken<'a>(&'a Shared);

impl Drop for TellWhenBroken<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().broken = true;
            self.0.ready.notify_one();
        }
    }
}
