//! Memory in parts of equal length that threads claim, fill and hand back, each part once.
//!
//! So that several threads fill one batch in place without a copy, a lock a part, or a scope that waits for them all:
//! a part is claimed by a counter, and the whole is given back when every part was.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Memory to be filled in parts. Parts are claimed in order, `0..n_parts`.
#[derive(Debug)]
pub struct Claims<T> {
    values: UnsafeCell<Vec<T>>,
    /// The beginning of `values`: claims never touch the vector itself.
    start: *mut T,
    part_len: usize,
    n_parts: usize,
    next: AtomicUsize,
    returned: AtomicUsize,
    taken: AtomicBool,
}

// SAFETY: threads reach the values only through claims, which are disjoint, and through `take`, after every claim.
unsafe impl<T: Send> Sync for Claims<T> {}
// SAFETY: the pointer is into the vector that goes along.
unsafe impl<T: Send> Send for Claims<T> {}

impl<T> Claims<T> {
    /// `n_parts` parts at the beginning of `values`.
    ///
    /// # Panics
    /// `values` is too short.
    pub fn new(mut values: Vec<T>, part_len: usize, n_parts: usize) -> Self {
        assert!(part_len * n_parts <= values.len(), "expected room for {n_parts} parts of {part_len}");
        Claims {
            start: values.as_mut_ptr(),
            values: UnsafeCell::new(values),
            part_len,
            n_parts,
            next: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
        }
    }

    /// The next part, if there is one that nobody had.
    pub fn claim(&self) -> Option<Claim<'_, T>> {
        // Claims that come too late must not let the counter go round.
        if self.next.load(Ordering::Relaxed) >= self.n_parts {
            return None;
        }
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        if part >= self.n_parts {
            return None;
        }
        // SAFETY: the counter gives a part once, parts are disjoint and inside the vector, and `take` waits for all
        // parts: nobody else reaches these values, or the vector itself, while the claim lives.
        let values =
            unsafe { std::slice::from_raw_parts_mut(self.start.add(part * self.part_len), self.part_len) };
        Some(Claim { part, values, returned: &self.returned })
    }

    /// Whether all parts are claimed.
    pub fn is_exhausted(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.n_parts
    }

    /// Whether all parts were handed back.
    pub fn is_complete(&self) -> bool {
        self.returned.load(Ordering::Acquire) == self.n_parts
    }

    /// The memory, once, when all parts were handed back.
    pub fn take(&self) -> Option<Vec<T>> {
        if !self.is_complete() || self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: all parts were claimed and handed back, so no claim lives or can be made; the flag lets one caller
        // in.
        Some(std::mem::take(unsafe { &mut *self.values.get() }))
    }

    /// The memory of what nobody shares any more, complete or not; empty if it was taken.
    pub fn reclaim(&mut self) -> Vec<T> {
        self.taken.store(true, Ordering::Relaxed);
        self.next.store(self.n_parts, Ordering::Relaxed);
        std::mem::take(self.values.get_mut())
    }
}

/// A part that is one thread's until dropped.
#[derive(Debug)]
pub struct Claim<'a, T> {
    part: usize,
    values: &'a mut [T],
    returned: &'a AtomicUsize,
}

impl<T> Claim<'_, T> {
    /// Which part.
    pub fn part(&self) -> usize {
        self.part
    }
}

impl<T> Deref for Claim<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.values
    }
}

impl<T> DerefMut for Claim<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.values
    }
}

impl<T> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        self.returned.fetch_add(1, Ordering::Release);
    }
}
