//! The pool: every index once, disjoint rows, panics passed on, and still usable after one.

use std::sync::atomic::{AtomicUsize, Ordering};

use ff_kernels::ThreadPool;

#[test]
fn every_thread_runs_once() {
    for threads in [1, 2, 3, 8] {
        let pool = ThreadPool::new(threads);
        for _ in 0..200 {
            let calls: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|index| {
                calls[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn rows_are_disjoint_and_complete() {
    let pool = ThreadPool::new(3);
    let mut data = vec![0usize; 7 * 5];
    pool.for_each_rows(&mut data, 5, |first, rows| {
        for (i, x) in rows.iter_mut().enumerate() {
            *x += first * 5 + i + 1;
        }
    });
    assert!(data.iter().enumerate().all(|(i, &x)| x == i + 1));
}

#[test]
fn a_panic_is_passed_on_and_the_pool_survives() {
    let pool = ThreadPool::new(2);
    for guilty in [0, 1] {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(|index| assert!(index != guilty, "as planned"));
        }));
        assert!(result.is_err());
        let calls = AtomicUsize::new(0);
        pool.run(|_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}

/// Gaps between jobs from none to well beyond what a worker spins for, so that jobs come to workers that spin, that
/// fall asleep, and that sleep. Every order of the steps is tried by the models (`src/sync/models.rs`).
#[test]
fn sleeping_workers_wake() {
    let pool = ThreadPool::new(4);
    for gap in (0..20_000).step_by(40) {
        for _ in 0..gap {
            std::hint::spin_loop();
        }
        let calls = AtomicUsize::new(0);
        pool.run(|_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.load(Ordering::Relaxed), 4);
    }
}
