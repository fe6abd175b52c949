//! A small fork-join pool: the caller and `n - 1` parked workers run one closure, each with its own index.
//!
//! Invariant: `run` returns only when every thread has finished, and allocates nothing. Who does what depends
//! on the thread index alone, so results do not depend on timing.
//! No work stealing, no nesting: a closure must not call `run` on its own pool.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;

use crate::cpu::base::sync::{
    Arc, AtomicBool, AtomicUsize, JoinHandle, Mutex, Ordering, Thread, UnsafeCell, may_switch, spin_loop,
    thread,
};
use crate::cpu::simd::Level;

/// How long a waiter spins before it sleeps: about 50 us, the gap between two kernels of a step. A model needs either
/// way once.
const SPINS: u32 = if cfg!(loom) { 1 } else { 2000 };

/// Threads that run kernels together, and the instruction set they use.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    entry: Mutex<()>,
    level: Level,
}

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    epoch: AtomicUsize,
    pending: AtomicUsize,
    stop: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    caller: UnsafeCell<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` and `caller` are written by the caller before it publishes a new epoch (release) and only
// while no worker is running (`pending == 0`); workers read them after seeing that epoch (acquire).
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw job pointer is only followed between publish and join.
unsafe impl Send for Shared {}

impl ThreadPool {
    /// A pool of `threads` threads (the caller is one of them) on the best instruction set of this machine.
    ///
    /// # Panics
    /// As [`Self::with_level`].
    pub fn new(threads: usize) -> Self {
        Self::with_level(threads, Level::best())
    }

    /// A pool on a chosen instruction set.
    ///
    /// # Panics
    /// No threads; the machine lacks the instruction set, or starts no more threads.
    pub fn with_level(threads: usize, level: Level) -> Self {
        assert!(threads >= 1, "a pool needs at least one thread");
        assert!(level.is_available(), "this machine has no {level:?}");
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            caller: UnsafeCell::new(None),
            panic: Mutex::new(None),
        });
        let mut pool = Self { shared, workers: Vec::new(), entry: Mutex::new(()), level };
        // One by one into the pool, which stops them if the next cannot be started.
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let started = thread::Builder::new()
                .name(format!("ff-kernels-{index}"))
                .spawn(move || worker(&shared, index));
            pool.workers.push(started.expect("the system can start a thread"));
        }
        pool
    }

    /// Threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set of the kernels that run here; always one this machine has.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Calls `job(index)` once for every index below `threads()`, in parallel, and waits for all of them.
    ///
    /// A panic in any of them is raised here, after all have finished; of several the caller's own, or the first.
    pub fn run(&self, job: impl Fn(usize) + Sync) {
        if self.workers.is_empty() {
            return job(0);
        }
        let one_at_a_time = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let erased: *const (dyn Fn(usize) + Sync + '_) = &job;
        // SAFETY: only the lifetime changes; `run` does not return before every worker is done with it.
        let erased: Job = unsafe { std::mem::transmute(erased) };
        // SAFETY: no worker is running (the last `run` waited for pending == 0) and `entry` is held.
        unsafe {
            shared.job.with_mut(|job| *job = Some(erased));
            shared.caller.with_mut(|caller| *caller = Some(thread::current()));
        }
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        may_switch(&shared.pending);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut spins = 0;
        while shared.pending.load(Ordering::Acquire) != 0 {
            if spins < SPINS {
                spins += 1;
                spin_loop();
            } else {
                thread::park();
            }
        }
        // Taken whoever else panicked: what stayed here would be raised by the next run, which did nothing wrong.
        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(one_at_a_time);
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Splits `data` into rows of `row_len`, gives each thread one run of whole rows, and calls
    /// `job(first_row, rows)` with it.
    pub fn for_each_rows<T: Send>(
        &self,
        data: &mut [T],
        row_len: usize,
        job: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(row_len > 0 && data.len().is_multiple_of(row_len), "data must be whole rows of {row_len}");
        let rows = data.len() / row_len;
        let all = SharedMut::new(data);
        self.run(|index| {
            let mine = split(rows, self.threads(), index);
            // SAFETY: `split` gives disjoint ranges to different indices, inside `0..rows`.
            let chunk = unsafe { all.slice(mine.start * row_len..mine.end * row_len) };
            job(mine.start, chunk);
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its jobs, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        loop {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if epoch != seen {
                seen = epoch;
                break;
            }
            if spins < SPINS {
                spins += 1;
                spin_loop();
            } else {
                thread::park();
            }
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the acquire load above saw the epoch published after these were written, and the caller
        // writes them again only after this worker has counted itself out below.
        let (job, caller) = unsafe {
            (
                shared.job.with(|job| *job).expect("a job is set"),
                shared.caller.with(|caller| (*caller).clone()),
            )
        };
        // SAFETY: the caller keeps the closure alive until `pending` reaches zero.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(index) }));
        if let Err(panic) = result {
            let mut first = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match *first {
                None => *first = Some(panic),
                Some(_) => drop_quietly(panic),
            }
        }
        if shared.pending.fetch_sub(1, Ordering::Release) == 1
            && let Some(caller) = caller
        {
            caller.unpark();
        }
    }
}

/// Drops a panic's payload, whose destructor may panic too: that must not end a worker that others wait for.
fn drop_quietly(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// The `index`-th of `parts` nearly equal, contiguous, disjoint pieces of `0..total`.
pub fn split(total: usize, parts: usize, index: usize) -> Range<usize> {
    (total * index / parts)..(total * (index + 1) / parts)
}

/// A mutable slice that several threads write at once, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    data: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `slice` and `as_ptr`, whose callers promise disjointness.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { data: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// # Safety
    /// No two slices alive at once may overlap.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "slice out of range");
        // SAFETY: in range; disjointness is promised.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut T {
        self.data
    }
}
