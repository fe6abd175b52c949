//! In which order an epoch visits the samples.

use ff_core::random::{Purpose, generator, shuffle};

/// A permutation of `0..n`: shuffled by (seed, epoch) for training, the identity for evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochOrder {
    indices: Vec<u32>,
}

impl EpochOrder {
    /// `0, 1, ..., n - 1`.
    ///
    /// # Panics
    /// `n` does not fit in 32 bits.
    pub fn identity(n: usize) -> Self {
        let n = u32::try_from(n).expect("expected fewer than 2^32 samples");
        EpochOrder { indices: (0..n).collect() }
    }

    /// A Fisher-Yates shuffle that is a function of (n, seed, epoch) only.
    ///
    /// # Panics
    /// As [`EpochOrder::identity`].
    pub fn shuffled(n: usize, seed: u64, epoch: u64) -> Self {
        let mut order = Self::identity(n);
        let mut rng = generator(Purpose::Order, seed, epoch, 0);
        shuffle(&mut rng, &mut order.indices);
        order
    }

    /// All sample indices, in the order of their visit.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The sample indices of a batch; shorter at the end, empty beyond it.
    pub fn batch(&self, batch_idx: usize, batch_size: usize) -> &[u32] {
        let start = batch_idx.saturating_mul(batch_size).min(self.indices.len());
        let end = start.saturating_add(batch_size).min(self.indices.len());
        &self.indices[start..end]
    }
}
