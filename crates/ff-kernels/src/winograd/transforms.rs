//! The one-dimensional transforms of F(4,3) and its twin F(3,4), at the points 0, 1, -1, 2, -2 and infinity
//! (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks"; Toom-Cook).
//!
//! Invariant: `output4(filter3(g) * input(d))` is the correlation of 6 inputs with 3 taps (4 outputs), and
//! `output3(filter4(g) * input(d))` that with 4 taps (3 outputs). The factors 1/N of the points sit in
//! `filter3` and `output3`, which run once per filter rather than once per tile.
//! The two-dimensional transforms nest these, rows within columns.

use crate::simd::Simd;

/// Points of the transform, which is also the side of an input tile.
pub(crate) const POINTS: usize = 6;
/// Points in two dimensions.
pub(crate) const XI: usize = POINTS * POINTS;

/// 6 inputs to 6 points.
///
/// # Safety
/// `S` must be available; so for all functions here.
#[inline(always)]
pub(crate) unsafe fn input<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: `S` is available.
    unsafe {
        let four = S::splat(4.0);
        let minus_four = S::splat(-4.0);
        let minus_five = S::splat(-5.0);
        let even4 = S::fma(d[2], minus_four, d[4]);
        let odd4 = S::fma(d[1], minus_four, d[3]);
        let even1 = S::sub(d[4], d[2]);
        let odd1 = S::sub(d[3], d[1]);
        let odd2 = S::add(odd1, odd1);
        [
            S::fma(d[0], four, S::fma(d[2], minus_five, d[4])),
            S::add(even4, odd4),
            S::sub(even4, odd4),
            S::add(even1, odd2),
            S::sub(even1, odd2),
            S::fma(d[1], four, S::fma(d[3], minus_five, d[5])),
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
        let (four, two, eight) = (S::splat(4.0), S::splat(2.0), S::splat(8.0));
        let sum1 = S::add(m[1], m[2]);
        let difference1 = S::sub(m[1], m[2]);
        let sum2 = S::add(m[3], m[4]);
        let difference2 = S::sub(m[3], m[4]);
        [
            S::add(S::add(m[0], sum1), sum2),
            S::fma(difference2, two, difference1),
            S::fma(sum2, four, sum1),
            S::add(S::fma(difference2, eight, difference1), m[5]),
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
        let sixth = S::splat(-1.0 / 6.0);
        let even1 = S::mul(S::add(g[0], g[2]), sixth);
        let odd1 = S::mul(g[1], sixth);
        let even2 = S::fma(g[0], S::splat(1.0 / 24.0), S::mul(g[2], S::splat(1.0 / 6.0)));
        let odd2 = S::mul(g[1], S::splat(1.0 / 12.0));
        [
            S::mul(g[0], S::splat(0.25)),
            S::add(even1, odd1),
            S::sub(even1, odd1),
            S::add(even2, odd2),
            S::sub(even2, odd2),
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
        let (four, two, eight) = (S::splat(4.0), S::splat(2.0), S::splat(8.0));
        let even1 = S::add(g[0], g[2]);
        let odd1 = S::add(g[1], g[3]);
        let even2 = S::fma(g[2], four, g[0]);
        let odd2 = S::fma(g[3], eight, S::mul(g[1], two));
        [g[0], S::add(even1, odd1), S::sub(even1, odd1), S::add(even2, odd2), S::sub(even2, odd2), g[3]]
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
        let sixth = S::splat(-1.0 / 6.0);
        let sum1 = S::mul(S::add(m[1], m[2]), sixth);
        let difference1 = S::mul(S::sub(m[1], m[2]), sixth);
        let sum2 = S::mul(S::add(m[3], m[4]), S::splat(1.0 / 24.0));
        let difference2 = S::mul(S::sub(m[3], m[4]), S::splat(1.0 / 12.0));
        [
            S::add(S::fma(m[0], S::splat(0.25), sum1), sum2),
            S::add(difference1, difference2),
            S::add(S::fma(sum2, S::splat(4.0), sum1), m[5]),
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
