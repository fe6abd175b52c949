//! Threads that prepare images: each takes the job that has waited longest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ff_train::infer::PhotoSearcher;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::batches::{Crop, Shared};
use super::{Answer, Failed, Planes, Times, bug};
use crate::metrics::{Metrics, Stage};

/// What makes planes of an image.
pub type Prepare = Box<dyn FnOnce(&mut PhotoSearcher) -> Result<Vec<Planes>, Failed> + Send>;

/// An image that waits to be prepared.
pub struct Job {
    /// What makes planes of it.
    pub prepare: Prepare,
    /// Who waits.
    pub reply: oneshot::Sender<Answer>,
    /// Its place in the house, until it is answered.
    pub room: OwnedSemaphorePermit,
    /// Since when it has waited.
    pub begun: Instant,
}

/// Prepares jobs until nobody can send any more.
pub fn work(jobs: &Mutex<Receiver<Job>>, crops: &SyncSender<Crop>, metrics: &Metrics) {
    let mut searcher = PhotoSearcher::new();
    loop {
        // Held while it waits: the others wait for the lock instead.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { prepare, reply, room, begun }) = job else { return };
        if reply.is_closed() {
            metrics.dropped();
            continue;
        }
        let taken = Instant::now();
        let prepared = catch_unwind(AssertUnwindSafe(|| prepare(&mut searcher))).unwrap_or_else(|panic| {
            // Whatever it was in the middle of.
            searcher = PhotoSearcher::new();
            metrics.panicked();
            Err(Failed::Internal(bug(&*panic)))
        });
        let times = Times { queue: taken - begun, detect: taken.elapsed(), ..Times::default() };
        metrics.took(Stage::Detect, times.detect);
        match prepared {
            Ok(planes) if !planes.is_empty() => {
                let shared = Arc::new(Mutex::new(Shared::new(reply, room, planes.len(), times)));
                let cut = Instant::now();
                for (index, planes) in planes.into_iter().enumerate() {
                    let crop = Crop { planes, index, cut, shared: Arc::clone(&shared) };
                    if crops.send(crop).is_err() {
                        return;
                    }
                }
            }
            prepared => {
                metrics.took(Stage::Queue, times.queue);
                drop(room);
                // A client that has gone hears nothing.
                let _ = reply.send(prepared.map(|_| (Vec::new(), times)));
            }
        }
    }
}
