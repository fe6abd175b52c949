//! Values to check with: noise that is the same on every machine, and networks as they are at first.

use crate::network::Layout;

/// Deterministic noise in -1..1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(draw).take(len).collect()
}

/// Flat parameters: weights as large as they are at first, BatchNorms near the identity.
pub fn parameters(layout: &Layout) -> Vec<f32> {
    let mut parameters = noise(layout.parameters_len(), 42);
    for parameter in &layout.parameters {
        let len: usize = parameter.shape.iter().product();
        let values = &mut parameters[parameter.offset..parameter.offset + len];
        let (scale, shift) = match parameter.shape.as_slice() {
            [outputs, _, _, _] => ((6.0 * *outputs as f32 / len as f32).sqrt(), 0.0),
            _ if parameter.name.ends_with("weight") => (0.3, 1.0),
            _ => (0.3, 0.0),
        };
        values.iter_mut().for_each(|x| *x = shift + scale * *x);
    }
    parameters
}

/// Flat running statistics: means of 0 and variances of 1.
pub fn statistics(layout: &Layout) -> Vec<f32> {
    let of_one = |len: usize, name: &str| vec![f32::from(u8::from(name.ends_with("var"))); len];
    layout.statistics.iter().flat_map(|s| of_one(s.shape[0], &s.name)).collect()
}

/// The cosine between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// `|found - expected| / |expected|` in the l2 norm; NaN where there is one.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let differences = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b)));
    let norm: f64 = expected.iter().map(|x| square(f64::from(*x))).sum();
    (differences.sum::<f64>() / norm).sqrt()
}
