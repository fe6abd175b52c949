//! A step allocates nothing once the plan is made and has run once.

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ff_kernels::ThreadPool;
use ff_kernels::cpu::plan::Plan;
use ff_kernels::network::{Config, Layout, Mode, Stage};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread's allocations count: the test harness has a thread that allocates when it likes.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: hands every call to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        if COUNTS.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let stage = |width, depth| Stage { width, depth };
    let config = Config { stem_channels: 16, stages: vec![stage(16, 1), stage(32, 2)] };
    let layout = Layout::new(&config);
    let pool = Arc::new(ThreadPool::new(2));
    pool.run(|_| COUNTS.set(true));
    let params = vec![0.01; layout.parameters_len()];
    let mut running = vec![1.0; layout.statistics_len()];
    let mut grads = vec![0.0; params.len()];
    let images = vec![0.5; 3 * 3 * 48 * 48];
    let mut embedding = vec![0.0; 3 * 32];
    let mut train = Plan::<f32>::new(&config, 3, 48, 48, Arc::clone(&pool), Mode::Train);
    let mut infer = Plan::<f32>::new(&config, 3, 48, 48, pool, Mode::Infer);
    let mut before = 0;
    for _ in 0..4 {
        before = ALLOCATIONS.load(Ordering::Relaxed);
        train.forward_train(&params, &mut running, &images, &mut embedding);
        train.backward(&params, &embedding, &mut grads);
        infer.invalidate_weights();
        infer.forward_eval(&params, &running, &images, &mut embedding);
        let two = 2 * 3 * 48 * 48;
        infer.forward_eval(&params, &running, &images[..two], &mut embedding[..64]);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    assert!(before > 0, "making the plans does, and is counted");
}
