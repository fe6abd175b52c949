//! Memory in parts of equal length that threads claim, fill and hand back, each part once.
//!
//! So that several threads fill one batch in place without a copy, a lock a part, or a scope that waits for them all:
//! a part is claimed by a counter, and the whole is given back when every part was.

use std::ops::{Deref, DerefMut};
use std::ptr;

use crate::cpu::base::shape::product;
use crate::cpu::base::sync::{AtomicPtr, AtomicUsize, Ordering};

/// Memory that somebody allocated: a vector, or what a device can read by itself.
pub type Memory<T> = Box<dyn DerefMut<Target = [T]> + Send + Sync>;

/// Memory to be filled in parts. Parts are claimed in order, `0..n_parts`.
#[derive(Debug)]
pub struct Claims<T> {
    /// Null when it was taken. Nothing looks through it while there are claims: they go by `start`.
    memory: AtomicPtr<Memory<T>>,
    start: *mut T,
    part_len: usize,
    n_parts: usize,
    next: AtomicUsize,
    returned: AtomicUsize,
}

// SAFETY: threads reach the values only through claims, which are disjoint, and through `take`, after every claim.
unsafe impl<T: Send> Sync for Claims<T> {}
// SAFETY: `start` points into the memory that goes along, and that memory may be sent.
unsafe impl<T: Send> Send for Claims<T> {}

impl<T> Claims<T> {
    /// `n_parts` parts at the beginning of `memory`.
    ///
    /// # Panics
    /// `memory` is too short, or the parts are more than can be counted.
    pub fn new(memory: Memory<T>, part_len: usize, n_parts: usize) -> Self {
        let (expected, found) = (product("parts", &[part_len, n_parts]), memory.len());
        assert!(expected <= found, "expected room for {n_parts} parts of {part_len}, found {found}");
        // Its owner gets a place of its own: `start` stays right wherever the claims are moved to.
        let memory = Box::into_raw(Box::new(memory));
        // SAFETY: just made, so nobody else has it.
        let values: &mut [T] = unsafe { &mut *memory };
        Claims {
            start: values.as_mut_ptr(),
            memory: AtomicPtr::new(memory),
            part_len,
            n_parts,
            next: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
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
        // SAFETY: the counter gives a part once, parts are disjoint and inside the memory, and `take` waits for all
        // parts: nobody else reaches these values, or the memory's owner, while the claim lives.
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
    pub fn take(&self) -> Option<Memory<T>> {
        // All parts were claimed and handed back, so no claim lives or can be made.
        if self.is_complete() { self.take_memory() } else { None }
    }

    /// The memory of what nobody shares any more, complete or not; `None` if it was taken.
    pub fn reclaim(&mut self) -> Option<Memory<T>> {
        self.next.store(self.n_parts, Ordering::Relaxed);
        self.take_memory()
    }

    /// To be called when no claim lives and none can be made.
    fn take_memory(&self) -> Option<Memory<T>> {
        let memory = self.memory.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: `new` made it with `Box::into_raw`, and the exchange lets one caller have it.
        (!memory.is_null()).then(|| *unsafe { Box::from_raw(memory) })
    }
}

impl<T> Drop for Claims<T> {
    fn drop(&mut self) {
        drop(self.reclaim());
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
