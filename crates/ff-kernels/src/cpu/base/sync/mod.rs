//! What [`threads`](crate::cpu::base::threads) and [`claims`](crate::host::claims) synchronise by: the standard
//! library's, or loom's (`--cfg loom`), which runs a model through every order that memory and scheduler allow.
//!
//! Nothing else of the crate shares memory between threads by itself.

#[cfg(all(test, loom))]
mod models;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

/// A place where a model may let others run: loom looks for those at accesses, and takes waking a thread for none.
#[inline(always)]
pub(crate) fn may_switch(at: &AtomicUsize) {
    if cfg!(loom) {
        at.load(Ordering::Relaxed);
    }
}

/// The standard library's cell, with loom's way to look into it.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `read` with a pointer that nobody writes through meanwhile: the caller's promise.
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with a pointer that nobody uses meanwhile: the caller's promise.
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
