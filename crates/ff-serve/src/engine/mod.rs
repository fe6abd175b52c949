//! Work that computes: threads that prepare images, and one that owns the network.
//!
//! ```text
//! submit -> [queue] -> workers: decode, search, cut -> [crops] -> the network's thread -> the one who waits
//! ```
//!
//! A batch is whatever piled up while the last one was computed, up to a cap: nobody waits for a batch to fill. There
//! is room for so many jobs; one more is refused at once rather than late. A job whose client has gone is dropped
//! wherever it stands. A panic is the answer of the job or batch that it happened in, and ends no thread.

mod batches;
mod workers;

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ff_train::infer::{Judged, PhotoSearcher, Predictor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::Result;
use crate::metrics::Metrics;
use crate::problem::{Cause, Problem};
use batches::Crop;
use workers::Job;

/// How much is computed at once, and how much may wait.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Threads that decode and search.
    pub workers: usize,
    /// Crops in a batch, at most.
    pub max_batch: usize,
    /// Images that wait or are worked on, at most.
    pub queue: usize,
    /// Height and width of crops.
    pub image_size: usize,
}

/// What judges crops.
pub trait Network: Send + 'static {
    /// Judges prepared images, `planes` (n,3,S,S) f32: one answer each.
    ///
    /// # Errors
    /// Why it cannot, in words.
    fn judge(&mut self, planes: &[f32], side: usize) -> Result<Vec<Judged>, String>;
}

impl Network for Predictor {
    fn judge(&mut self, planes: &[f32], side: usize) -> Result<Vec<Judged>, String> {
        Predictor::judge(self, planes, side).map_err(|error| error.to_string())
    }
}

/// Threads that prepare and judge images. Clones share them; they end with the last.
#[derive(Clone)]
pub struct Engine {
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
    options: EngineOptions,
    metrics: Arc<Metrics>,
}

/// Planes (3,S,S) f32, normalised, of one image for the network.
pub type Planes = Vec<f32>;

/// Why an image has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// It is the image's fault.
    Unusable(String),
    /// It is ours.
    Internal(String),
}

/// Where the time of a job went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Waiting for a thread, and for the network.
    pub queue: Duration,
    /// Decoding, searching and cutting.
    pub detect: Duration,
    /// The batches that its crops were in.
    pub model: Duration,
}

/// What became of a job.
pub struct Done<R> {
    /// What preparing it said.
    pub prepared: R,
    /// The network's answers, one for each of its crops.
    pub judged: Vec<Judged>,
    /// Where the time went.
    pub times: Times,
}

/// A job that was submitted. Dropping it tells the engine that nobody waits.
pub struct Ticket<R> {
    prepared: Arc<Mutex<Option<R>>>,
    answer: oneshot::Receiver<Answer>,
}

/// What the threads say of a job.
type Answer = Result<(Vec<Judged>, Times), Failed>;

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(network: impl Network, options: EngineOptions, metrics: Arc<Metrics>) -> Result<Self> {
        let (jobs, waiting): (_, Receiver<Job>) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        // Enough for the next batch and no more: photos wait as files, which are smaller than their crops.
        let (crops, cut) = sync_channel::<Crop>(options.max_batch);
        for worker in 0..options.workers.max(1) {
            let (waiting, crops, metrics) = (Arc::clone(&waiting), crops.clone(), Arc::clone(&metrics));
            thread::Builder::new()
                .name(format!("photo worker {worker}"))
                .spawn(move || workers::work(&waiting, &crops, &metrics))?;
        }
        let of_batches = Arc::clone(&metrics);
        thread::Builder::new()
            .name("network".to_owned())
            .spawn(move || batches::judge(network, &cut, options, &of_batches))?;
        let room = Arc::new(Semaphore::new(options.queue));
        Ok(Self { jobs, room, options, metrics })
    }

    /// How it was started.
    pub fn options(&self) -> EngineOptions {
        self.options
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Images that wait or are worked on.
    pub fn in_house(&self) -> usize {
        self.options.queue - self.room.available_permits()
    }

    /// Room for so many jobs, or for none.
    ///
    /// # Errors
    /// There is no room now, or never for so many.
    pub fn reserve(&self, n: usize) -> Result<Vec<OwnedSemaphorePermit>, Problem> {
        let queue = self.options.queue;
        if n > queue {
            let detail = format!("expected at most {queue} images in a request, found {n}");
            return Err(Problem::new(Cause::Unprocessable, detail));
        }
        let full = |_| {
            self.metrics.refused();
            Problem::new(Cause::Overloaded, format!("{queue} images are being worked on already"))
        };
        let mut all = Arc::clone(&self.room).try_acquire_many_owned(n as u32).map_err(full)?;
        Ok((0..n).filter_map(|_| all.split(1)).collect())
    }

    /// Has a thread do `prepare`, and the network judge the planes that it gives, (3,S,S) each.
    pub fn submit<R: Send + 'static>(
        &self,
        room: OwnedSemaphorePermit,
        prepare: impl FnOnce(&mut PhotoSearcher) -> Result<(R, Vec<Planes>), Failed> + Send + 'static,
    ) -> Ticket<R> {
        let prepared = Arc::new(Mutex::new(None));
        let (reply, answer) = oneshot::channel();
        let kept = Arc::clone(&prepared);
        let prepare = Box::new(move |searcher: &mut PhotoSearcher| {
            let (said, planes) = prepare(searcher)?;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
            Ok(planes)
        });
        // Threads that are gone have dropped the receiver, and the ticket says so.
        let _ = self.jobs.send(Job { prepare, reply, room, begun: Instant::now() });
        Ticket { prepared, answer }
    }
}

impl<R> Ticket<R> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn answer(self) -> Result<Done<R>, Failed> {
        let gone = || Failed::Internal("the threads that compute are gone".to_owned());
        let (judged, times) = self.answer.await.map_err(|_| gone())??;
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Done { prepared: prepared.ok_or_else(gone)?, judged, times })
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unusable(detail) => Self::new(Cause::Unprocessable, detail),
            Failed::Internal(detail) => Self::new(Cause::Internal, detail),
        }
    }
}

/// What is answered for a panic.
fn bug(panic: &(dyn std::any::Any + Send)) -> String {
    format!("a bug: {}", ff_core::text::panic_message(panic))
}
