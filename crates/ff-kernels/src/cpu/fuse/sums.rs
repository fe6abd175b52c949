//! Two sums per channel, gathered by several threads while they do something else.
//!
//! Invariant: each thread adds to its own `f64` row, and the rows are merged in thread order, so the totals do
//! not depend on timing. Kernels add short runs in `f32` (about a pivot where a square is summed) and carry
//! them here.

use crate::cpu::base::shape::product;
use crate::cpu::simd::Simd;

/// Per-channel pairs of sums: `(sum x, sum x^2)` or `(sum g, sum g (x - mean))`.
pub struct ChannelSums {
    threads: usize,
    capacity: usize,
    channels: usize,
    /// `[thread][2][capacity]`
    partial: Vec<f64>,
}

impl ChannelSums {
    /// Room for `channels` channels gathered by `threads` threads.
    ///
    /// # Panics
    /// More than can be counted.
    pub fn new(channels: usize, threads: usize) -> Self {
        let len = product("sums", &[threads, 2, channels]);
        Self { threads, capacity: channels, channels, partial: vec![0.0; len] }
    }

    /// Sets all sums to zero and the number of channels in use.
    pub fn reset(&mut self, channels: usize) {
        assert!(channels <= self.capacity, "sums hold {} channels, not {channels}", self.capacity);
        self.channels = channels;
        self.partial.fill(0.0);
    }

    /// Channels in use.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The totals of one channel.
    pub fn total(&self, channel: usize) -> (f64, f64) {
        assert!(channel < self.channels, "channel {channel} of {}", self.channels);
        let mut total = (0.0, 0.0);
        for row in self.partial.chunks_exact(2 * self.capacity) {
            total.0 += row[channel];
            total.1 += row[self.capacity + channel];
        }
        total
    }

    /// The sums as threads write them.
    pub(crate) fn rows(&mut self, channels: usize, threads: usize) -> SumRows {
        assert!(channels == self.channels, "sums were reset for {} channels, not {channels}", self.channels);
        assert!(threads <= self.threads, "sums hold {} threads, not {threads}", self.threads);
        SumRows { data: self.partial.as_mut_ptr(), capacity: self.capacity }
    }
}

/// One row of sums per thread, as a pointer.
#[derive(Clone, Copy)]
pub(crate) struct SumRows {
    data: *mut f64,
    capacity: usize,
}

// SAFETY: every thread writes its own row only.
unsafe impl Sync for SumRows {}
// SAFETY: as above.
unsafe impl Send for SumRows {}

impl SumRows {
    /// Adds to the sums of `channel` in the row of `thread`.
    ///
    /// # Safety
    /// Both must be in range, and each thread must pass its own index.
    #[inline(always)]
    pub(crate) unsafe fn add(&self, thread: usize, channel: usize, first: f64, second: f64) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = self.data.add(thread * 2 * self.capacity + channel);
            *at += first;
            *at.add(self.capacity) += second;
        }
    }

    /// Adds a vector to each of the two sums of the channels from `channel` on.
    ///
    /// # Safety
    /// As [`Self::add`], for every lane; `S` available.
    #[inline(always)]
    pub(crate) unsafe fn add_lanes<S: Simd>(&self, thread: usize, channel: usize, first: S::V, second: S::V) {
        let (mut firsts, mut seconds) = ([0.0f32; 16], [0.0f32; 16]);
        // SAFETY: the arrays hold a vector of any level; the rest is the caller's promise.
        unsafe {
            S::store(firsts.as_mut_ptr(), first);
            S::store(seconds.as_mut_ptr(), second);
            for lane in 0..S::LANES {
                self.add(thread, channel + lane, f64::from(firsts[lane]), f64::from(seconds[lane]));
            }
        }
    }
}
