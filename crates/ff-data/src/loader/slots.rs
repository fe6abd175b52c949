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

pub use ff_kernels::host::claims::Memory;

/// Where the memory of pixels comes from: somewhere that a device can read from by itself, say.
pub trait SlotMemory: Send + Sync {
    /// `len` bytes without particular contents. Workers call it, one slot at a time.
    fn allocate(&self, len: usize) -> Memory<u8>;
}

/// Slots that wait for their next batch.
pub(super) struct Ring<T> {
    free: Mutex<Vec<Memory<T>>>,
    allocate: Box<dyn Fn(usize) -> Memory<T> + Send + Sync>,
    slot_len: usize,
    capacity: usize,
    made: AtomicUsize,
}

impl<T: Copy + Default + Send + Sync + 'static> Ring<T> {
    /// Keeps up to `capacity` slots of `slot_len` values for later.
    pub(super) fn new(slot_len: usize, capacity: usize) -> Arc<Self> {
        Self::with(Box::new(|len| Box::new(vec![T::default(); len])), slot_len, capacity)
    }
}

impl Ring<u8> {
    /// The same over memory of another kind.
    pub(super) fn over(memory: Arc<dyn SlotMemory>, slot_len: usize, capacity: usize) -> Arc<Self> {
        Self::with(Box::new(move |len| memory.allocate(len)), slot_len, capacity)
    }
}

impl<T> Ring<T> {
    fn with(
        allocate: Box<dyn Fn(usize) -> Memory<T> + Send + Sync>,
        slot_len: usize,
        capacity: usize,
    ) -> Arc<Self> {
        Arc::new(Ring { free: Mutex::default(), allocate, slot_len, capacity, made: AtomicUsize::new(0) })
    }

    /// A slot without particular contents.
    pub(super) fn take(&self) -> Memory<T> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| {
            self.made.fetch_add(1, Ordering::Relaxed);
            (self.allocate)(self.slot_len)
        })
    }

    /// How many slots were ever made.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn give_back(&self, memory: Memory<T>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.capacity {
            free.push(memory);
        }
    }
}

/// The values of a batch. Deref to a slice; dropping it hands the memory back to the loader.
pub struct Slot<T> {
    /// `None` only while it is dropped.
    memory: Option<Memory<T>>,
    len: usize,
    ring: Arc<Ring<T>>,
}

impl<T> Slot<T> {
    /// The first `len` values of a slot's memory.
    pub(super) fn new(memory: Memory<T>, len: usize, ring: Arc<Ring<T>>) -> Self {
        Slot { memory: Some(memory), len, ring }
    }

    /// Takes one of the parts of equal length out, the later ones move up.
    pub(super) fn remove_part(&mut self, part: usize, part_len: usize)
    where
        T: Copy,
    {
        self.copy_within((part + 1) * part_len.., part * part_len);
        self.len -= part_len;
    }
}

impl<T> Deref for Slot<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let memory = self.memory.as_ref().expect("a slot has its memory until it is dropped");
        &memory[..self.len]
    }
}

impl<T> DerefMut for Slot<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let memory = self.memory.as_mut().expect("a slot has its memory until it is dropped");
        &mut memory[..self.len]
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} values)", self.len)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.ring.give_back(memory);
        }
    }
}
