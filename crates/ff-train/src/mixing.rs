//! Mixup and cutmix: images of a batch mixed in pairs, with their share for the loss.
//!
//! One draw a batch, a function of (seed, batch of the run). All three tasks share it, as they share the images.

use ff_core::random::{Purpose, below, beta, coin, generator, shuffle};

/// What is mixed: `alpha` of the Beta distribution that shares are drawn from; 0 is never. With both, a coin decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixing {
    /// Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.
    pub mixup: f64,
    /// Yun et al., "CutMix", ICCV 2019.
    pub cutmix: f64,
    /// Seed of the run.
    pub seed: u64,
}

/// How one batch is mixed.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// Share of an image's own pixels and label; its partner has the rest.
    pub share: f64,
    /// The partner of each image of the batch, (B,): a permutation.
    pub partners: Vec<u32>,
    /// Cutmix: the patch that is the partner's. Mixup has none.
    pub patch: Option<Patch>,
}

/// A rectangle of pixels; ends are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// First and last row.
    pub rows: (usize, usize),
    /// First and last column.
    pub columns: (usize, usize),
}

impl Mixing {
    /// Draws the mix of a run's `batch`-th batch of `n` images of this height and width; `None` where nothing is mixed.
    pub fn draw(&self, batch: u64, n: usize, (height, width): (usize, usize)) -> Option<Mix> {
        let mut rng = generator(Purpose::Mixing, self.seed, 0, batch);
        let cut = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (false, false) => return None,
            (true, true) => coin(&mut rng),
            (_, cut) => cut,
        };
        let alpha = if cut { self.cutmix } else { self.mixup };
        let share = beta(&mut rng, alpha, alpha);
        let mut partners: Vec<u32> = (0..n as u32).collect();
        shuffle(&mut rng, &mut partners);
        if !cut {
            return Some(Mix { share, partners, patch: None });
        }
        let side = (1.0 - share).sqrt();
        let mut span = |length: usize| {
            let half = (side * length as f64) as usize / 2;
            let centre = below(&mut rng, length as u32) as usize;
            (centre.saturating_sub(half), (centre + half).min(length))
        };
        let patch = Patch { rows: span(height), columns: span(width) };
        let area = (patch.rows.1 - patch.rows.0) * (patch.columns.1 - patch.columns.0);
        // The border may have cut some of the patch off.
        let share = 1.0 - area as f64 / (height * width) as f64;
        Some(Mix { share, partners, patch: Some(patch) })
    }
}

impl Mix {
    /// Each image's partner's value, of the images' (B,).
    pub fn of_partners(&self, values: &[u32]) -> Vec<u32> {
        self.partners.iter().map(|&partner| values[partner as usize]).collect()
    }

    /// A batch's images of this shape (B,C,H,W), mixed.
    pub fn apply(&self, images: &[f32], [_, channels, height, width]: [usize; 4]) -> Vec<f32> {
        let mut mixed = images.to_vec();
        let size = channels * height * width;
        for (own, &partner) in mixed.chunks_exact_mut(size).zip(&self.partners) {
            let partner = &images[partner as usize * size..][..size];
            let Some(patch) = self.patch else {
                let share = self.share as f32;
                own.iter_mut().zip(partner).for_each(|(x, &y)| *x = share * *x + (1.0 - share) * y);
                continue;
            };
            for row in (0..channels).flat_map(|c| (patch.rows.0..patch.rows.1).map(move |r| c * height + r)) {
                let span = row * width + patch.columns.0..row * width + patch.columns.1;
                own[span.clone()].copy_from_slice(&partner[span]);
            }
        }
        mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (6, 8);

    fn images(n: usize) -> Vec<f32> {
        (0..n * 3 * SIZE.0 * SIZE.1).map(|i| (i / (3 * SIZE.0 * SIZE.1)) as f32).collect()
    }

    #[test]
    fn nothing_is_mixed_unless_asked_for_and_draws_repeat() {
        let off = Mixing { mixup: 0.0, cutmix: 0.0, seed: 1 };
        assert_eq!(off.draw(1, 4, SIZE), None);
        let both = Mixing { mixup: 0.2, cutmix: 1.0, seed: 1 };
        let draws: Vec<_> = (0..64).map(|batch| both.draw(batch, 4, SIZE).unwrap()).collect();
        assert_eq!(draws[7], both.draw(7, 4, SIZE).unwrap());
        let cut = draws.iter().filter(|mix| mix.patch.is_some()).count();
        assert!((16..48).contains(&cut), "a coin decides: {cut} of 64 are cut");
    }

    /// What a seed mixes must not change with the version of a library.
    #[test]
    fn the_first_mixes_of_a_seed_stay_what_they_are() {
        let both = Mixing { mixup: 0.2, cutmix: 1.0, seed: 42 };
        let mixes: Vec<_> = (1..=3).map(|batch| both.draw(batch, 4, SIZE).unwrap()).collect();
        let found: Vec<_> =
            mixes.iter().map(|m| (m.share.to_bits(), m.partners.as_slice(), m.patch)).collect();
        assert_eq!(format!("{found:x?}"), FROZEN);
    }

    const FROZEN: &str = "[(3fe5555555555556, [3, 1, 2, 0], Some(Patch { rows: (0, 4), columns: (4, 8) })), \
        (3fe0000000000000, [0, 2, 1, 3], Some(Patch { rows: (0, 4), columns: (1, 7) })), \
        (3fe8000000000000, [2, 3, 1, 0], Some(Patch { rows: (3, 6), columns: (0, 4) }))]";

    /// Images are constant, image i has value i: a mixed pixel tells whose it is.
    #[test]
    fn shares_are_those_of_the_pixels() {
        let images = images(4);
        for (mixup, cutmix) in [(1.0, 0.0), (0.0, 1.0)] {
            for batch in 0..32 {
                let mix = Mixing { mixup, cutmix, seed: 3 }.draw(batch, 4, SIZE).unwrap();
                let mixed = mix.apply(&images, [4, 3, SIZE.0, SIZE.1]);
                for (i, image) in mixed.chunks_exact(3 * SIZE.0 * SIZE.1).enumerate() {
                    let mean = image.iter().map(|&x| f64::from(x)).sum::<f64>() / image.len() as f64;
                    let expected = mix.share * i as f64 + (1.0 - mix.share) * f64::from(mix.partners[i]);
                    assert!((mean - expected).abs() < 1e-5, "{mix:?}: {mean} vs {expected}");
                }
            }
        }
    }
}
