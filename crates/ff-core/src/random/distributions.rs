//! Normal, gamma and beta draws on raw words.

use std::sync::LazyLock;

use rand::RngCore;

use super::elementary::{exp, ln};

/// Layers of equal area under the normal density.
const LAYERS: usize = 256;
/// Where the tail begins, and the area of a layer (Marsaglia and Tsang, "The ziggurat method for generating random
/// variables", 2000).
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 0.004_928_673_233_99;

/// Right ends of the layers, the lowest first, and the density there: `x[LAYERS]` is 0.
struct Ziggurat {
    x: [f64; LAYERS + 1],
    density: [f64; LAYERS + 1],
}

static ZIGGURAT: LazyLock<Ziggurat> = LazyLock::new(|| {
    let mut x = [0.0; LAYERS + 1];
    // The lowest layer has the tail in it, hence is wider than the density's rectangle.
    x[0] = AREA / density(TAIL);
    x[1] = TAIL;
    for i in 2..LAYERS {
        x[i] = (-2.0 * ln(AREA / x[i - 1] + density(x[i - 1]))).sqrt();
    }
    Ziggurat { x, density: x.map(density) }
});

/// The normal density, without its factor.
fn density(x: f64) -> f64 {
    exp(-0.5 * x * x)
}

/// A draw from the standard normal distribution.
pub fn normal(rng: &mut impl RngCore) -> f64 {
    let Ziggurat { x: ends, density: heights } = &*ZIGGURAT;
    loop {
        // The layer takes 8 bits, the place in it 53 others, the sign the last.
        let word = rng.next_u64();
        let layer = (word & 0xff) as usize;
        let sign = if word & 0x100 == 0 { 1.0 } else { -1.0 };
        let x = (word >> 11) as f64 * UNIT * ends[layer];
        if x < ends[layer + 1] {
            return sign * x;
        }
        if layer == 0 {
            return sign * tail(rng);
        }
        let height = heights[layer] + (heights[layer + 1] - heights[layer]) * closed_unit(rng);
        if height < density(x) {
            return sign * x;
        }
    }
}

/// A normal draw beyond [`TAIL`] (Marsaglia, "Generating a variable from the tail of the normal distribution", 1964).
fn tail(rng: &mut impl RngCore) -> f64 {
    loop {
        let x = -ln(closed_unit(rng)) / TAIL;
        let y = -ln(closed_unit(rng));
        if 2.0 * y > x * x {
            return TAIL + x;
        }
    }
}

/// 2^-53.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

/// A uniform number in (0, 1], from 53 bits: its logarithm is finite.
fn closed_unit(rng: &mut impl RngCore) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * UNIT
}

/// A draw from the gamma distribution of this shape and scale 1.
///
/// # Panics
/// The shape is no positive, finite number.
pub fn gamma(rng: &mut impl RngCore, shape: f64) -> f64 {
    exp(ln_gamma_draw(rng, shape))
}

/// The logarithm of a gamma draw: of a small shape most draws are smaller than any float.
fn ln_gamma_draw(rng: &mut impl RngCore, shape: f64) -> f64 {
    assert!(shape > 0.0 && shape.is_finite(), "expected a positive shape, found {shape}");
    if shape < 1.0 {
        // Gamma(a) = Gamma(a + 1) U^(1 / a).
        let boost = ln(closed_unit(rng)) / shape;
        return ln_gamma_draw(rng, shape + 1.0) + boost;
    }
    // Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let root = 1.0 + c * x;
        if root <= 0.0 {
            continue;
        }
        let v = root * root * root;
        if ln(closed_unit(rng)) < 0.5 * x * x + d - d * v + d * ln(v) {
            return ln(d) + ln(v);
        }
    }
}

/// A draw from the beta distribution, in [0, 1]: the share of one gamma draw in the sum of two.
///
/// # Panics
/// A shape is no positive, finite number.
pub fn beta(rng: &mut impl RngCore, a: f64, b: f64) -> f64 {
    let (first, second) = (ln_gamma_draw(rng, a), ln_gamma_draw(rng, b));
    // Of shapes near zero both logarithms can be infinite: then a coin would have decided.
    let difference = second - first;
    if difference.is_nan() {
        return 0.5;
    }
    if difference > 700.0 { 0.0 } else { 1.0 / (1.0 + exp(difference)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    const N: usize = 250_000;
    /// Five standard errors of a mean of so many draws whose deviation is 1.
    const ERROR: f64 = 5.0 / 500.0;

    /// The mean of the powers 1 to 4, about `centre`.
    fn moments(centre: f64, mut draw: impl FnMut() -> f64) -> [f64; 4] {
        let mut sums = [0.0; 4];
        for _ in 0..N {
            let x = draw() - centre;
            let mut power = 1.0;
            for sum in &mut sums {
                power *= x;
                *sum += power;
            }
        }
        sums.map(|sum| sum / N as f64)
    }

    #[test]
    fn normal_draws_have_the_moments_and_the_tails_of_a_normal_distribution() {
        let mut rng = generator(Purpose::Init, 1, 0, 0);
        let [mean, variance, skew, kurtosis] = moments(0.0, || normal(&mut rng));
        // The deviation of x^k is the root of its (2k)-th moment, less its square.
        for (found, expected, deviation) in [
            (mean, 0.0, 1.0),
            (variance, 1.0, 2f64.sqrt()),
            (skew, 0.0, 15f64.sqrt()),
            (kurtosis, 3.0, 96f64.sqrt()),
        ] {
            assert!((found - expected).abs() < ERROR * deviation, "{found} vs {expected}");
        }
        // Shares beyond one, two, three standard deviations and beyond the ziggurat's last layer.
        for (bound, share) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 0.002_699_8), (TAIL, 2.580_3e-4)]
        {
            let beyond = (0..N).filter(|_| normal(&mut rng).abs() > bound).count() as f64 / N as f64;
            assert!(
                (beyond - share).abs() < 5.0 * (share / N as f64).sqrt(),
                "{beyond} beyond {bound}, not {share}"
            );
        }
    }

    #[test]
    fn gamma_and_beta_draws_have_their_mean_and_variance() {
        let mut rng = generator(Purpose::Mixing, 1, 0, 0);
        for shape in [0.05, 0.3, 1.0, 2.5, 40.0] {
            let [mean, variance, _, fourth] = moments(shape, || gamma(&mut rng, shape));
            assert!(mean.abs() < ERROR * shape.sqrt(), "mean of {shape}: off by {mean}");
            let deviation = (fourth - variance * variance).sqrt();
            assert!((variance - shape).abs() < ERROR * deviation, "variance of {shape}: {variance}");
        }
        for (a, b) in [(0.2, 0.2), (1.0, 1.0), (0.4, 3.0), (8.0, 2.0)] {
            let (mean, n) = (a / (a + b), a + b);
            let variance = mean * (1.0 - mean) / (n + 1.0);
            let [off, found, _, fourth] = moments(mean, || beta(&mut rng, a, b));
            assert!(off.abs() < ERROR * variance.sqrt(), "mean of {a}, {b}: off by {off}");
            let deviation = (fourth - found * found).sqrt();
            assert!((found - variance).abs() < ERROR * deviation, "variance of {a}, {b}: {found}");
        }
    }

    #[test]
    fn shapes_near_zero_and_very_large_ones_give_shares() {
        let mut rng = generator(Purpose::Mixing, 2, 0, 0);
        for alpha in [f64::MIN_POSITIVE, 1e-300, 1e-9, 1e-3, 1e9, 1e150, f64::MAX / 16.0] {
            for _ in 0..100 {
                let share = beta(&mut rng, alpha, alpha);
                assert!((0.0..=1.0).contains(&share), "{share} of {alpha}");
            }
        }
    }
}
