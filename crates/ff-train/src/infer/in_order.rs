//! Work on numbered items by several threads, whose results come in order.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::Result;

/// Results that a thread makes ahead of the consumer.
const AHEAD: usize = 2;

/// Does `work` for the items `0..n` on threads, each with a state of its own, and hands the results to `each` in order,
/// which may break off. No more than [`AHEAD`] results a thread wait, however slow `each` is.
///
/// The threads take items in turn, so that results need no sorting: a slow item holds up its own thread, and the others
/// as soon as they are [`AHEAD`].
///
/// # Errors
/// Those of `each`, or a thread does not start.
///
/// # Panics
/// `work` panics.
pub(super) fn in_order<S, T: Send>(
    n: usize,
    workers: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
    mut each: impl FnMut(usize, T) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let workers = workers.clamp(1, n.max(1));
    thread::scope(|scope| {
        let mut results = Vec::new();
        for worker in 0..workers {
            let (send, receive) = sync_channel(AHEAD);
            let (state, work) = (&state, &work);
            thread::Builder::new().name(format!("photo worker {worker}")).spawn_scoped(scope, move || {
                let mut state = state();
                for i in (worker..n).step_by(workers) {
                    if send.send(work(&mut state, i)).is_err() {
                        break;
                    }
                }
            })?;
            results.push(receive);
        }
        for i in 0..n {
            // A thread that panicked sends nothing more, and the scope passes its panic on.
            let Ok(result) = results[i % workers].recv() else { break };
            if each(i, result)?.is_break() {
                break;
            }
        }
        drop(results);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_few_wait() {
        for (n, workers) in [(0, 3), (1, 4), (100, 1), (100, 3), (7, 7)] {
            let (begun, mut seen) = (AtomicUsize::new(0), Vec::new());
            in_order(
                n,
                workers,
                || (),
                |(), i| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    i * i
                },
                |i, result| {
                    seen.push(i);
                    assert_eq!(result, i * i);
                    // A thread holds what waits and the one that it could not hand over.
                    assert!(begun.load(Ordering::SeqCst) <= i + 1 + workers * (AHEAD + 1));
                    Ok(ControlFlow::Continue(()))
                },
            )
            .unwrap();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn breaking_off_ends_the_threads() {
        let mut seen = 0;
        let broken = |i: usize, ()| {
            seen += 1;
            Ok(if i == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        in_order(1_000_000, 4, || (), |(), _| (), broken).unwrap();
        assert_eq!(seen, 5);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_passed_on() {
        let work = |(): &mut (), i: usize| assert!(i < 3, "the third");
        let _ = in_order(10, 2, || (), work, |_, ()| Ok(ControlFlow::Continue(())));
    }
}
