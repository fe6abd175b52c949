//! Ranks that do not wait for ever.
//!
//! An exchange in which one rank is stuck, or cut off from the others, never ends. So a thread looks at how long the
//! one at hand has taken, and says so when that is too long; what then ends the process is for its owner to choose.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::{Ranks, ReduceDtype};
use crate::Result;

/// Ranks under watch.
pub struct Watched<R> {
    ranks: R,
    watching: Watching,
}

/// The thread, which ends with this.
struct Watching {
    watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
}

/// An exchange that has taken too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// Whose.
    pub rank: usize,
    /// What kind of exchange.
    pub what: &'static str,
    /// The step at hand, from 1; 0 before the first.
    pub step: u64,
}

#[derive(Default)]
struct Watch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The exchange at hand, and when it began.
    open: Option<(&'static str, Instant)>,
    step: u64,
    over: bool,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until an exchange has taken so long, or there are no more.
    fn wait(&self, timeout: Duration) -> Option<(&'static str, u64)> {
        let mut state = self.state();
        loop {
            let left = match state.open {
                _ if state.over => return None,
                Some((what, began)) => {
                    match timeout.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
                        Some(left) => left,
                        None => return Some((what, state.step)),
                    }
                }
                None => timeout,
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<R: Ranks> Watched<R> {
    /// Watches over `ranks`, and calls `stalled`, once, when an exchange has taken longer than `timeout`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn new(ranks: R, timeout: Duration, stalled: impl FnOnce(Stalled) + Send + 'static) -> Result<Self> {
        let (watch, rank) = (Arc::new(Watch::default()), ranks.rank());
        let watching = Arc::clone(&watch);
        let thread = std::thread::Builder::new().name("ff-train watch".to_owned()).spawn(move || {
            if let Some((what, step)) = watching.wait(timeout) {
                stalled(Stalled { rank, what, step });
            }
        })?;
        Ok(Self { ranks, watching: Watching { watch, thread: Some(thread) } })
    }

    /// The ranks, which nobody watches over any more.
    pub fn into_inner(self) -> R {
        self.ranks
    }

    fn during<T>(&mut self, what: &'static str, exchange: impl FnOnce(&mut R) -> T) -> T {
        self.watching.watch.state().open = Some((what, Instant::now()));
        let result = exchange(&mut self.ranks);
        self.watching.watch.state().open = None;
        result
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.state().over = true;
        self.watch.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in there was already said.
            let _ = thread.join();
        }
    }
}

impl<R: Ranks> Ranks for Watched<R> {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn size(&self) -> usize {
        self.ranks.size()
    }

    fn gpu(&self) -> Option<usize> {
        self.ranks.gpu()
    }

    fn at_step(&mut self, step: u64) {
        self.watching.watch.state().step = step;
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.during("gathering records", |ranks| ranks.gather(bytes))
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        self.during("sharing what rank 0 has", |ranks| ranks.broadcast(bytes))
    }

    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()> {
        self.during("adding gradients", |ranks| ranks.sum(values, n, dtype))
    }

    fn sum_tensor(&mut self, tensor: &Tensor, n: usize, dtype: ReduceDtype) -> Result<()> {
        self.during("adding gradients", |ranks| ranks.sum_tensor(tensor, n, dtype))
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, what, step } = self;
        write!(f, "step {step}: rank {rank} waits for the others, {what}: one of them is stuck or cut off")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use super::*;
    use crate::ranks::threads;

    #[test]
    fn only_an_exchange_that_does_not_end_is_told() {
        let (told, hears) = channel();
        let is_told = Arc::new(AtomicBool::new(false));
        threads::run(2, |ranks| {
            // Long enough for what is not stuck on a busy machine.
            let (told, is_told) = (told.clone(), Arc::clone(&is_told));
            let patient = |stalled| panic!("{stalled}");
            let mut ranks = Watched::new(ranks, Duration::from_secs(300), patient).unwrap();
            (0..20).for_each(|_| drop(ranks.gather(&[1]).unwrap()));
            let ranks = ranks.into_inner();
            if ranks.rank() == 0 {
                let mut ranks = Watched::new(ranks, Duration::from_millis(20), move |stalled| {
                    told.send(stalled).unwrap();
                    is_told.store(true, Ordering::Relaxed);
                })
                .unwrap();
                ranks.at_step(7);
                // The other one comes to it when this has been told.
                ranks.sum(&mut [1.0], 2, ReduceDtype::F32).unwrap();
            } else {
                while !is_told.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ranks.sum(&mut [1.0], 2, ReduceDtype::F32).unwrap();
            }
        });
        assert_eq!(hears.try_recv(), Ok(Stalled { rank: 0, what: "adding gradients", step: 7 }));
    }
}
