//! The first two sieves: a perceptual hash compared for all pairs, and the correlation of low frequencies for those
//! that pass.
//!
//! Both come from the 8x8 lowest frequencies of the thumbnail's discrete cosine transform without the mean (Zauner,
//! "Implementation and benchmarking of perceptual image hash functions", 2010). The hash is their 63 signs. Mirroring
//! an image negates the odd horizontal frequencies and nothing else, so hashes and correlations are kept in an even and
//! an odd part, and a mirror image costs no second hash.

use std::sync::LazyLock;

use super::{
    Facing,
    fingerprint::{SIDE, Thumbnail},
};

/// Different signs of 63 at most. Unrelated faces differ in 29 +- 4.5, and one pair in a thousand gets by.
const MAX_DISTANCE: u32 = 14;
/// Correlation of low frequencies at least; one in three of the unrelated pairs that got by gets by here too.
const MIN_CORRELATION: f32 = 0.6;

/// Frequencies a direction.
const LOW: usize = 8;
/// Odd horizontal frequencies; the even ones are as many, with the mean, which counts for nothing.
const HALF: usize = LOW * LOW / 2;

/// A pair that passed both sieves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) other: usize,
    pub(super) facing: Facing,
}

/// `(N)` hashes and `(N,64)` frequencies, each in two halves.
pub(super) struct Hashes {
    even: Vec<u32>,
    odd: Vec<u32>,
    frequencies: Vec<[[f32; HALF]; 2]>,
}

impl Hashes {
    pub(super) fn new<'t>(thumbnails: impl Iterator<Item = &'t Thumbnail>) -> Self {
        let mut hashes = Hashes { even: Vec::new(), odd: Vec::new(), frequencies: Vec::new() };
        for thumbnail in thumbnails {
            let [even, odd] = frequencies(thumbnail);
            hashes.even.push(signs(&even));
            hashes.odd.push(signs(&odd));
            hashes.frequencies.push(normalised([even, odd]));
        }
        hashes
    }

    /// The later images that may show what image `first` shows.
    pub(super) fn candidates(&self, first: usize, candidates: &mut Vec<Candidate>) {
        /// Distances at once: most stretches have none that is small, and finding that out is quick.
        const STRETCH: usize = 64;
        candidates.clear();
        let (even, odd) = (self.even[first], self.odd[first]);
        let mut distances = [0; STRETCH];
        for start in (first + 1..self.even.len()).step_by(STRETCH) {
            let end = (start + STRETCH).min(self.even.len());
            let hashes = self.even[start..end].iter().zip(&self.odd[start..end]);
            for (distance, (&other_even, &other_odd)) in distances.iter_mut().zip(hashes) {
                let odd = (odd ^ other_odd).count_ones();
                *distance = (even ^ other_even).count_ones() + odd.min(HALF as u32 - odd);
            }
            let distances = &distances[..end - start];
            if distances.iter().fold(u32::MAX, |least, &distance| least.min(distance)) > MAX_DISTANCE {
                continue;
            }
            let near = distances.iter().enumerate().filter(|&(_, &distance)| distance <= MAX_DISTANCE);
            candidates.extend(near.filter_map(|(i, _)| self.candidate(first, start + i)));
        }
    }

    /// The second sieve; a pair that passed the first has one facing that is nearer.
    fn candidate(&self, first: usize, other: usize) -> Option<Candidate> {
        let odd = (self.odd[first] ^ self.odd[other]).count_ones();
        let facing = if odd > HALF as u32 / 2 { Facing::Mirrored } else { Facing::Same };
        let [even, odd] =
            [0, 1].map(|half| dot(&self.frequencies[first][half], &self.frequencies[other][half]));
        let correlation = match facing {
            Facing::Same => even + odd,
            Facing::Mirrored => even - odd,
        };
        (correlation >= MIN_CORRELATION).then_some(Candidate { other, facing })
    }
}

fn dot(a: &[f32; HALF], b: &[f32; HALF]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn signs(frequencies: &[f32; HALF]) -> u32 {
    frequencies.iter().rev().fold(0, |signs, &value| signs << 1 | u32::from(value > 0.0))
}

/// Weighted by frequency, since the lowest would drown the others, and brought to length 1.
fn normalised([even, odd]: [[f32; HALF]; 2]) -> [[f32; HALF]; 2] {
    let weight = |half: usize, i: usize| {
        let (y, x) = ((i / (LOW / 2)) as f32, (2 * (i % (LOW / 2)) + half) as f32);
        x.hypot(y)
    };
    let weighted = |half: usize, values: [f32; HALF]| {
        let mut i = 0;
        values.map(|value| {
            i += 1;
            value * weight(half, i - 1)
        })
    };
    let halves = [weighted(0, even), weighted(1, odd)];
    let length = halves.as_flattened().iter().map(|value| value * value).sum::<f32>().sqrt();
    halves.map(|half| half.map(|value| if length > 0.0 { value / length } else { 0.0 }))
}

/// The low frequencies, even and odd horizontal ones apart, each row by row; the mean is 0.
fn frequencies(thumbnail: &Thumbnail) -> [[f32; HALF]; 2] {
    static COSINES: LazyLock<[[f32; SIDE]; LOW]> = LazyLock::new(|| {
        let cosine = |frequency: usize, i: usize| {
            let angle = std::f64::consts::PI * frequency as f64 * (i as f64 + 0.5) / SIDE as f64;
            angle.cos() as f32
        };
        std::array::from_fn(|frequency| std::array::from_fn(|i| cosine(frequency, i)))
    });
    let along = |values: &[f32; SIDE], cosines: &[f32; SIDE]| -> f32 {
        values.iter().zip(cosines).map(|(value, cosine)| value * cosine).sum()
    };
    // Per horizontal frequency a column of 32 values, one a row of the image.
    let mut columns = [[0.0; SIDE]; LOW];
    for (y, row) in thumbnail.chunks_exact(SIDE).enumerate() {
        let row: [f32; SIDE] = std::array::from_fn(|x| f32::from(row[x]));
        for (column, cosines) in columns.iter_mut().zip(COSINES.iter()) {
            column[y] = along(&row, cosines);
        }
    }
    let mut halves = [[0.0; HALF]; 2];
    for (x, column) in columns.iter().enumerate() {
        for (y, cosines) in COSINES.iter().enumerate() {
            halves[x % 2][y * (LOW / 2) + x / 2] = along(column, cosines);
        }
    }
    halves[0][0] = 0.0;
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture without symmetry.
    fn thumbnail(facing: Facing) -> Thumbnail {
        std::array::from_fn(|i| {
            let (y, x) = (i / SIDE, i % SIDE);
            let x = if facing == Facing::Mirrored { SIDE - 1 - x } else { x };
            ((x * x * 3 + y * 29 + x * y * 7) % 251) as u8
        })
    }

    #[test]
    fn mirroring_negates_the_odd_frequencies() {
        let [even, odd] = frequencies(&thumbnail(Facing::Same));
        let [mirrored_even, mirrored_odd] = frequencies(&thumbnail(Facing::Mirrored));
        for i in 0..HALF {
            assert!((even[i] - mirrored_even[i]).abs() < 0.1, "even {i}");
            assert!((odd[i] + mirrored_odd[i]).abs() < 0.1, "odd {i}");
        }
        assert!(odd.iter().any(|value| value.abs() > 100.0), "the picture has odd frequencies");
    }

    #[test]
    fn copies_and_mirror_images_are_candidates_and_others_are_not() {
        let other: Thumbnail = std::array::from_fn(|i| (i * i % 253) as u8);
        let pictures = [thumbnail(Facing::Same), other, thumbnail(Facing::Mirrored), thumbnail(Facing::Same)];
        let hashes = Hashes::new(pictures.iter());
        let mut found = Vec::new();
        hashes.candidates(0, &mut found);
        let expected = [(2, Facing::Mirrored), (3, Facing::Same)];
        assert_eq!(found, expected.map(|(other, facing)| Candidate { other, facing }));
    }
}
