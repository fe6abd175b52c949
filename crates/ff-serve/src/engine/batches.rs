//! The thread that owns the network: batches of what is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ff_train::infer::Judged;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Answer, EngineOptions, Failed, Network, Planes, Times, bug};
use crate::metrics::{Metrics, Stage};

/// One image for the network.
pub struct Crop {
    /// (3,S,S) f32.
    pub planes: Planes,
    /// Its place among those of its job.
    pub index: usize,
    /// Since when it has waited.
    pub cut: Instant,
    /// What it shares with the others of its job.
    pub shared: Arc<Mutex<Shared>>,
}

/// What the crops of a job share.
pub struct Shared {
    /// `None` once it is answered.
    reply: Option<oneshot::Sender<Answer>>,
    judged: Vec<Option<Judged>>,
    left: usize,
    times: Times,
    begun: bool,
    /// Left before the answer is sent: whoever hears it may send the next image.
    room: Option<OwnedSemaphorePermit>,
}

impl Shared {
    /// Of a job with `n` crops, none of them judged.
    pub fn new(reply: oneshot::Sender<Answer>, room: OwnedSemaphorePermit, n: usize, times: Times) -> Self {
        Self { reply: Some(reply), judged: vec![None; n], left: n, times, begun: false, room: Some(room) }
    }

    /// Whether nobody waits for it, or it has been answered without this crop.
    fn is_over(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn fail(&mut self, why: &str) {
        self.room = None;
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(Failed::Internal(why.to_owned())));
        }
    }

    fn answer(&mut self, metrics: &Metrics) {
        metrics.took(Stage::Queue, self.times.queue);
        let judged = self.judged.drain(..).flatten().collect();
        self.room = None;
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Ok((judged, self.times)));
        }
    }
}

/// Judges crops until nobody can send any more.
pub fn judge(
    mut network: impl Network,
    crops: &Receiver<Crop>,
    EngineOptions { max_batch, image_size, .. }: EngineOptions,
    metrics: &Metrics,
) {
    let (mut batch, mut planes): (Vec<Crop>, Planes) = Default::default();
    while let Ok(first) = crops.recv() {
        let mut next = Some(first);
        while let Some(crop) = next {
            if lock(&crop.shared).is_over() {
                metrics.dropped();
            } else {
                batch.push(crop);
            }
            next = if batch.len() < max_batch { crops.try_recv().ok() } else { None };
        }
        if batch.is_empty() {
            continue;
        }
        let begun = Instant::now();
        for crop in &batch {
            planes.extend_from_slice(&crop.planes);
            let mut shared = lock(&crop.shared);
            if !std::mem::replace(&mut shared.begun, true) {
                shared.times.queue += begun - crop.cut;
            }
        }
        let judged = catch_unwind(AssertUnwindSafe(|| network.judge(&planes, image_size)));
        let judged = judged.unwrap_or_else(|panic| {
            metrics.panicked();
            Err(bug(&*panic))
        });
        let took = begun.elapsed();
        metrics.batch(batch.len(), took);
        hand_out(batch.drain(..), judged, took, metrics);
        planes.clear();
    }
}

/// Gives every crop of a batch its answer, and every job whose last one it was.
fn hand_out(
    batch: impl ExactSizeIterator<Item = Crop>,
    judged: Result<Vec<Judged>, String>,
    took: Duration,
    metrics: &Metrics,
) {
    let judged = match judged {
        Ok(judged) if judged.len() == batch.len() => Ok(judged),
        Ok(judged) => Err(format!("expected {} answers of the network, found {}", batch.len(), judged.len())),
        Err(why) => Err(why),
    };
    let mut judged = judged.map(Vec::into_iter);
    // Jobs that have had this batch's time already.
    let mut timed: Vec<Arc<Mutex<Shared>>> = Vec::new();
    for crop in batch {
        let mut shared = lock(&crop.shared);
        match &mut judged {
            Err(why) => shared.fail(why),
            Ok(judged) => {
                shared.judged[crop.index] = judged.next();
                shared.left -= 1;
                if !timed.iter().any(|seen| Arc::ptr_eq(seen, &crop.shared)) {
                    shared.times.model += took;
                    timed.push(Arc::clone(&crop.shared));
                }
                if shared.left == 0 {
                    shared.answer(metrics);
                }
            }
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
