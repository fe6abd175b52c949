//! The ring of batch-sized image memory.
//!
//! Every slot is made for a whole batch, once, and used again as it is: nothing is filled with zeros on the way. The
//! ring never blocks: a consumer that keeps many batches gets fresh memory for them instead of a deadlock. What bounds
//! memory is that no more than the prefetch depth is made ahead of the consumer.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Slots that wait for their next batch.
pub(super) struct Ring<T> {
    free: Mutex<Vec<Vec<T>>>,
    slot_len: usize,
    capacity: usize,
    made: AtomicUsize,
}

impl<T: Copy + Default> Ring<T> {
    /// Keeps up to `capacity` slots of `slot_len` values for later.
    pub(super) fn new(slot_len: usize, capacity: usize) -> Arc<Self> {
        Arc::new(Ring { free: Mutex::default(), slot_len, capacity, made: AtomicUsize::new(0) })
    }

    /// A slot without particular contents.
    pub(super) fn take(&self) -> Vec<T> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| {
            self.made.fetch_add(1, Ordering::Relaxed);
            vec![T::default(); self.slot_len]
        })
    }

    /// How many slots were ever made.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl<T> Ring<T> {
    pub(super) fn give_back(&self, values: Vec<T>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() == self.slot_len && free.len() < self.capacity {
            free.push(values);
        }
    }
}

/// The values of a batch. Deref to a slice; dropping it hands the memory back to the loader.
pub struct Slot<T> {
    values: Vec<T>,
    len: usize,
    ring: Arc<Ring<T>>,
}

impl<T> Slot<T> {
    /// The first `len` values of a slot's memory.
    pub(super) fn new(values: Vec<T>, len: usize, ring: Arc<Ring<T>>) -> Self {
        Slot { values, len, ring }
    }

    /// Takes the memory for good: the loader will make another slot.
    pub fn into_vec(mut self) -> Vec<T> {
        let mut values = std::mem::take(&mut self.values);
        values.truncate(self.len);
        values
    }

    /// Takes one of the parts of equal length out, the later ones move up.
    pub(super) fn remove_part(&mut self, part: usize, part_len: usize)
    where
        T: Copy,
    {
        self.values.copy_within((part + 1) * part_len..self.len, part * part_len);
        self.len -= part_len;
    }
}

impl<T> Deref for Slot<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T> DerefMut for Slot<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} values)", self.len)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.ring.give_back(std::mem::take(&mut self.values));
    }
}
