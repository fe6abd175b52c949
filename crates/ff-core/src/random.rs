//! Seeded draws that mean the same on every machine and in every version of this crate.
//!
//! A generator is keyed by what its draws belong to, never by who draws or when: that is what makes batches
//! independent of the worker count and runs exact to resume. The helpers below fix how ChaCha8's words become
//! numbers, since `rand` does not promise that across versions.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a generator is for; keeps the streams of one seed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of an epoch.
    Order,
    /// What augmentation does to a sample.
    Augment,
    /// Which rows go into which split.
    Split,
    /// Initial values of a tensor.
    Init,
    /// Dropout masks.
    Dropout,
    /// Mixup and cutmix.
    Mixing,
    /// Resamples of an evaluation.
    Bootstrap,
}

/// The generator of (purpose, seed, epoch, index). The key is these 32 bytes as they are: distinct arguments cannot
/// collide.
pub fn generator(purpose: Purpose, seed: u64, epoch: u64, index: u64) -> ChaCha8Rng {
    let purpose: [u8; 8] = match purpose {
        Purpose::Order => *b"ff order",
        Purpose::Augment => *b"ff augme",
        Purpose::Split => *b"ff split",
        Purpose::Init => *b"ff initi",
        Purpose::Dropout => *b"ff dropo",
        Purpose::Mixing => *b"ff mixin",
        Purpose::Bootstrap => *b"ff boots",
    };
    let mut key = [0; 32];
    let parts = [purpose, seed.to_le_bytes(), epoch.to_le_bytes(), index.to_le_bytes()];
    for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
        bytes.copy_from_slice(&part);
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniform integer in `0..n`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
pub fn below(rng: &mut impl RngCore, n: u32) -> u32 {
    debug_assert!(n > 0, "expected a range with at least one value");
    let threshold = n.wrapping_neg() % n;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(n);
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

/// Fisher-Yates.
pub fn shuffle<T>(rng: &mut impl RngCore, values: &mut [T]) {
    for last in (1..values.len()).rev() {
        let pick = below(rng, last as u32 + 1) as usize;
        values.swap(last, pick);
    }
}

/// A uniform number in `low..=high`, from 24 bits.
pub fn uniform(rng: &mut impl RngCore, low: f32, high: f32) -> f32 {
    const STEP: f32 = 1.0 / (1 << 24) as f32;
    let unit = (rng.next_u32() >> 8) as f32 * STEP;
    low + (high - low) * unit
}
