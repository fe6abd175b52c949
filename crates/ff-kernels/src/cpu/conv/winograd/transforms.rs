//! The one-dimensional transforms of F(4,3) and its twin F(3,4), at the points 0, A, -A, B, -B and infinity with
//! A = 3/4 and B = 3/2 (Toom-Cook; Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks").
//!
//! The usual points 1 and 2 make the same number of multiplications and twice the error: over 256 channels of
//! normal values 3.1e-6 of the output's root mean square, against 1.5e-6 here and 0.6e-6 for a direct sum. Points
//! between 0.6 and 1.5 are alike; these have squares that f32 holds exactly (after Alam et al. 2022, "Winograd
//! Convolution for Deep Neural Networks: Efficient Point Selection").
//!
//! Invariant: `output4(filter3(g) * input(d))` is the correlation of 6 inputs with 3 taps (4 outputs), and
//! `output3(filter4(g) * input(d))` that with 4 taps (3 outputs). The factors 1/N of the points sit in
//! `filter3` and `output3`, which run once per filter rather than once per tile.
//! The two-dimensional transforms nest these, rows within columns.

use crate::cpu::simd::Simd;

/// Points of the transform, which is also the side of an input tile.
pub(crate) const POINTS: usize = 6;
/// Points in two dimensions.
pub(crate) const XI: usize = POINTS * POINTS;

const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
const A3: f32 = A2 * A;
const B3: f32 = B2 * B;
/// 1/N of the points 0, A (and -A), B (and -B), where N is the product of the distances to the other points.
const PER_N0: f32 = 1.0 / (A2 * B2);
const PER_NA: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const PER_NB: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// 6 inputs to 6 points.
///
/// # Safety
/// `S` must be available; so for all functions here.
#[inline(always)]
pub(crate) unsafe fn input<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: `S` is available.
    unsafe {
        let (product, minus_sum) = (S::splat(A2 * B2), S::splat(-(A2 + B2)));
        let (minus_a2, minus_b2) = (S::splat(-A2), S::splat(-B2));
        let even_a = S::fma(d[2], minus_b2, d[4]);
        let odd_a = S::fma(d[1], minus_b2, d[3]);
        let even_b = S::fma(d[2], minus_a2, d[4]);
        let odd_b = S::fma(d[1], minus_a2, d[3]);
        [
            S::fma(d[0], product, S::fma(d[2], minus_sum, d[4])),
            S::fma(odd_a, S::splat(A), even_a),
            S::fma(odd_a, S::splat(-A), even_a),
            S::fma(odd_b, S::splat(B), even_b),
            S::fma(odd_b, S::splat(-B), even_b),
            S::fma(d[1], product, S::fma(d[3], minus_sum, d[5])),
        ]
    }
}

/// 6 points to 4 outputs.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub(crate) unsafe fn output4<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: `S` is available.
    unsafe {
        let (sum_a, difference_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_b, difference_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum_a), sum_b),
            S::fma(difference_b, S::splat(B), S::mul(difference_a, S::splat(A))),
            S::fma(sum_b, S::splat(B2), S::mul(sum_a, S::splat(A2))),
            S::fma(difference_b, S::splat(B3), S::fma(difference_a, S::splat(A3), m[5])),
        ]
    }
}

/// 3 taps to 6 points.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub(crate) unsafe fn filter3<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: `S` is available.
    unsafe {
        let even_a = S::fma(g[0], S::splat(PER_NA), S::mul(g[2], S::splat(PER_NA * A2)));
        let odd_a = S::mul(g[1], S::splat(PER_NA * A));
        let even_b = S::fma(g[0], S::splat(PER_NB), S::mul(g[2], S::splat(PER_NB * B2)));
        let odd_b = S::mul(g[1], S::splat(PER_NB * B));
        [
            S::mul(g[0], S::splat(PER_N0)),
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            g[2],
        ]
    }
}

/// 4 taps to 6 points, without the factors 1/N.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub(crate) unsafe fn filter4<S: Simd>(g: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: `S` is available.
    unsafe {
        let even_a = S::fma(g[2], S::splat(A2), g[0]);
        let odd_a = S::fma(g[3], S::splat(A3), S::mul(g[1], S::splat(A)));
        let even_b = S::fma(g[2], S::splat(B2), g[0]);
        let odd_b = S::fma(g[3], S::splat(B3), S::mul(g[1], S::splat(B)));
        [
            g[0],
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            g[3],
        ]
    }
}

/// 6 points to 3 outputs, with the factors 1/N that [`filter4`] left out.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub(crate) unsafe fn output3<S: Simd>(m: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: `S` is available.
    unsafe {
        let sum_a = S::mul(S::add(m[1], m[2]), S::splat(PER_NA));
        let difference_a = S::mul(S::sub(m[1], m[2]), S::splat(PER_NA * A));
        let sum_b = S::mul(S::add(m[3], m[4]), S::splat(PER_NB));
        let difference_b = S::mul(S::sub(m[3], m[4]), S::splat(PER_NB * B));
        [
            S::add(S::fma(m[0], S::splat(PER_N0), sum_a), sum_b),
            S::add(difference_a, difference_b),
            S::fma(sum_b, S::splat(B2), S::fma(sum_a, S::splat(A2), m[5])),
        ]
    }
}

/// Nests a one-dimensional transform in itself: columns first, then rows.
macro_rules! nested {
    ($name:ident, $one:ident, $from:literal, $to:literal) => {
        /// # Safety
        /// As [`input`].
        #[inline(always)]
        pub(crate) unsafe fn $name<S: Simd>(d: &[[S::V; $from]; $from]) -> [[S::V; $to]; $to] {
            // SAFETY: `S` is available.
            unsafe {
                let zero = S::splat(0.0);
                let mut half = [[zero; $from]; $to];
                for j in 0..$from {
                    let mut column = [zero; $from];
                    for i in 0..$from {
                        column[i] = d[i][j];
                    }
                    let points = $one::<S>(column);
                    for i in 0..$to {
                        half[i][j] = points[i];
                    }
                }
                let mut out = [[zero; $to]; $to];
                for i in 0..$to {
                    out[i] = $one::<S>(half[i]);
                }
                out
            }
        }
    };
}
nested!(input_tile, input, 6, 6);
nested!(output_tile4, output4, 6, 4);
nested!(filter_tile3, filter3, 3, 6);
nested!(filter_tile4, filter4, 4, 6);
nested!(output_tile3, output3, 6, 3);
