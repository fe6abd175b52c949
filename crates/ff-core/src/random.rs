//! Seeded draws that mean the same on every machine and in every version of this crate.
//!
//! A generator is keyed by what its draws belong to, never by who draws or when: that is what makes batches
//! independent of the worker count and runs exact to resume. The helpers below fix how ChaCha8's words become
//! numbers, since `rand` does not promise that across versions; they use no function of the system's mathematical
//! library, whose last bits differ from one machine to the next.

mod distributions;
mod elementary;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use distributions::{beta, gamma, normal};
pub use elementary::{exp, ln};

/// A stream of draws: ChaCha8, because it is specified.
pub type Generator = ChaCha8Rng;

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
    /// Decisions that thresholds leave to chance.
    Lots,
}

/// The generator of (purpose, seed, epoch, index). The key is these 32 bytes as they are: distinct arguments cannot
/// collide.
pub fn generator(purpose: Purpose, seed: u64, epoch: u64, index: u64) -> Generator {
    let purpose: [u8; 8] = match purpose {
        Purpose::Order => *b"ff order",
        Purpose::Augment => *b"ff augme",
        Purpose::Split => *b"ff split",
        Purpose::Init => *b"ff initi",
        Purpose::Dropout => *b"ff dropo",
        Purpose::Mixing => *b"ff mixin",
        Purpose::Bootstrap => *b"ff boots",
        Purpose::Lots => *b"ff lots\0",
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

/// A uniform number in `0..1`, from 24 bits.
pub fn unit(rng: &mut impl RngCore) -> f32 {
    uniform(rng, 0.0, 1.0)
}

/// Heads or tails.
pub fn coin(rng: &mut impl RngCore) -> bool {
    rng.next_u32() >> 31 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSES: [Purpose; 8] = [
        Purpose::Order,
        Purpose::Augment,
        Purpose::Split,
        Purpose::Init,
        Purpose::Dropout,
        Purpose::Mixing,
        Purpose::Bootstrap,
        Purpose::Lots,
    ];

    /// The first words of every purpose, frozen: another version of a library must not change what a seed means.
    #[test]
    fn the_first_draws_of_every_purpose_stay_what_they_are() {
        let words = PURPOSES.map(|purpose| generator(purpose, 42, 1, 2).next_u64());
        assert_eq!(words, FROZEN_WORDS, "{words:#018x?}");
    }

    /// What words become, frozen too.
    #[test]
    fn the_first_numbers_of_a_seed_stay_what_they_are() {
        let mut rng = generator(Purpose::Init, 42, 0, 0);
        let normals: [u64; 4] = std::array::from_fn(|_| normal(&mut rng).to_bits());
        let gammas = [0.1, 0.5, 1.0, 7.5].map(|shape| gamma(&mut rng, shape).to_bits());
        let betas = [0.1, 0.5, 1.0, 7.5].map(|alpha| beta(&mut rng, alpha, alpha).to_bits());
        let units: [u32; 4] = std::array::from_fn(|_| unit(&mut rng).to_bits());
        let integers: [u32; 4] = std::array::from_fn(|_| below(&mut rng, 1000));
        let coins: [bool; 8] = std::array::from_fn(|_| coin(&mut rng));
        let mut order: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
        shuffle(&mut rng, &mut order);
        let found =
            format!("{normals:x?} {gammas:x?} {betas:x?} {units:x?} {integers:?} {coins:?} {order:?}");
        assert_eq!(found, FROZEN_NUMBERS);
    }

    /// Initial values and dropout once shared their streams: the same words for a seed, another place apart.
    #[test]
    fn purposes_seeds_epochs_and_places_have_streams_of_their_own() {
        let mut first = Vec::new();
        for purpose in PURPOSES {
            for (seed, epoch, index) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (u64::MAX, 0, 0)] {
                first.push(generator(purpose, seed, epoch, index).next_u64());
            }
        }
        let n = first.len();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), n);
    }

    #[test]
    fn integers_coins_and_uniforms_are_even() {
        let mut rng = generator(Purpose::Split, 7, 0, 0);
        const N: usize = 70_000;
        let mut times = [0; 7];
        (0..N).for_each(|_| times[below(&mut rng, 7) as usize] += 1);
        // Five standard deviations of a binomial count.
        assert!(times.iter().all(|&n: &i32| (n - 10_000).abs() < 465), "{times:?}");
        let heads = (0..N).filter(|_| coin(&mut rng)).count() as i64;
        assert!((heads - 35_000).abs() < 662, "{heads}");
        let mean = (0..N).map(|_| f64::from(unit(&mut rng))).sum::<f64>() / N as f64;
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / (N as f64).sqrt(), "{mean}");
        // Every place of a shuffle gets every value alike.
        let mut first = [0; 5];
        for _ in 0..N {
            let mut values = [0, 1, 2, 3, 4];
            shuffle(&mut rng, &mut values);
            first[values[0]] += 1;
        }
        assert!(first.iter().all(|&n: &i32| (n - 14_000).abs() < 530), "{first:?}");
    }

    const FROZEN_WORDS: [u64; 8] = [
        0x096f_a794_f82f_5eff,
        0xeb4d_7d7d_0fef_93d0,
        0xb37f_c752_942d_d75c,
        0x455c_5d15_0d03_1758,
        0x4173_cee2_54b9_536d,
        0x8bed_6076_3b41_8e99,
        0x0ecd_63c6_a1e8_98da,
        0x4c6a_8fcb_ab90_a6d0,
    ];
    const FROZEN_NUMBERS: &str = "[bfad7e5a0aae9323, 3fda89a9b6f0e2e2, 3ff8181ff79023b1, bfe7a9a1f45d5e7f] \
        [3fd8d5a1f2a8dbc1, 3fb62111cb48e40a, 3fde7d57e26deddf, 401d1e61e4bf01b5] \
        [3fefa89770c51897, 3fef93ddbbd466e0, 3fe44d4e0a96752b, 3fdb6dc0c6b03d15] \
        [3f7b8a80, 3ed8cd80, 3ecba4e2, 3f58db07] [910, 522, 481, 273] \
        [true, true, false, true, false, true, true, true] [7, 2, 5, 0, 3, 1, 6, 4]";
}
