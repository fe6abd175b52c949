//! Fork-join and claims in every interleaving, by loom: `cargo xtask sanitize loom`.
//!
//! What the threads hand to each other lies in loom's cells, which notice an access that nothing ordered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize as Counter, Ordering::Relaxed};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

use crate::host::claims::Claims;
use crate::{Level, ThreadPool};

/// Runs a model in every order with up to this many preemptions, and says how many there were.
fn every_order(what: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(Counter::new(0));
    let counted = std::sync::Arc::clone(&orders);
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("{what}: {} orders, up to {preemptions} preemptions", orders.load(Relaxed));
}

/// A value that a thread writes and another reads; loom reports both at once.
struct Cell(UnsafeCell<usize>);

// SAFETY: loom checks every access.
unsafe impl Sync for Cell {}
// SAFETY: as above.
unsafe impl Send for Cell {}

impl Cell {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn add(&self, more: usize) {
        // SAFETY: loom gives no pointer while another is in use.
        self.0.with_mut(|value| unsafe { *value += more });
    }

    fn get(&self) -> usize {
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
}

/// What the caller wrote before a run is there in it, what the threads wrote is there after it; twice, and an end.
#[test]
fn fork_join_orders_what_threads_write() {
    for (threads, preemptions) in [(2, 3), (3, 2)] {
        every_order(&format!("fork-join of {threads}"), preemptions, move || {
            let pool = ThreadPool::with_level(threads, Level::Portable);
            let (given, made) = (Cell::new(), (0..threads).map(|_| Cell::new()).collect::<Vec<_>>());
            for round in 1..=2 {
                given.add(1);
                pool.run(|index| made[index].add(given.get()));
                assert!(made.iter().all(|made| made.get() == round * (round + 1) / 2));
            }
        });
    }
}

/// A panic is raised by the run that it happened in, whoever panicked, and never by the next.
#[test]
fn fork_join_passes_panics_on_once() {
    for guilty in [[false, true], [true, true]] {
        every_order(&format!("panics of {guilty:?}"), 2, move || {
            let pool = ThreadPool::with_level(2, Level::Portable);
            let run = || {
                pool.run(|index| {
                    if guilty[index] {
                        std::panic::resume_unwind(Box::new(index))
                    }
                })
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            pool.run(|_| ());
        });
    }
}

/// Every part is claimed once, and who takes the memory sees what was written into all of them.
#[test]
fn claims_order_what_threads_fill() {
    every_order("claims", 3, || {
        let memory: Vec<Cell> = (0..2).map(|_| Cell::new()).collect();
        let claims = Arc::new(Claims::new(Box::new(memory), 1, 2));
        let fill = |claims: &Claims<Cell>| {
            while let Some(claim) = claims.claim() {
                claim[0].add(claim.part() + 1);
            }
        };
        let other = Arc::clone(&claims);
        let worker = thread::spawn(move || {
            fill(&other);
            other.take().map(|memory| memory.iter().map(Cell::get).collect::<Vec<_>>())
        });
        fill(&claims);
        let mine = claims.take().map(|memory| memory.iter().map(Cell::get).collect::<Vec<_>>());
        let theirs = worker.join().expect("nothing panics");
        // Whoever asks last finds all parts back.
        let found = [mine, theirs, claims.take().map(|memory| memory.iter().map(Cell::get).collect())];
        let found: Vec<_> = found.into_iter().flatten().collect();
        assert_eq!(found, [[1, 2]], "the memory is given once, whole");
    });
}
