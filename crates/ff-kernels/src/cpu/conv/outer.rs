//! The micro-kernel of weight gradients: a sum of outer products, a block of it in registers.
//!
//! Up to 6 rows of 16 at a time (12 vectors of AVX2 as accumulators); AVX-512 takes 8 rows of two panels, or 16 of one.
//! Each step loads 16 values (bfloat16: pairs) of one operand a panel and broadcasts one a row of the other.

use crate::cpu::simd::{Lanes, Simd};

/// Panels `[count][16][STEP]` of the operand that is not broadcast.
#[derive(Clone, Copy)]
pub(crate) struct Right<E> {
    /// The first panel.
    pub(crate) data: *const E,
    /// Elements between panels.
    pub(crate) stride: usize,
    /// One or two; their products lie side by side.
    pub(crate) panels: usize,
}

/// `out[row][0..16 * P] (+)= sum over n of left[n][row] * right[n][0..16 * P]` for `R` rows.
///
/// # Safety
/// `S` available; `left` and `right` are `[count][16][STEP]` (`left` may point into its row); `out` is `R` rows
/// `out_stride` apart.
#[inline(always)]
unsafe fn outer<S: Simd, E: Lanes, const R: usize, const P: usize>(
    left: *const E,
    right: Right<E>,
    count: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[S::w_zero(); P]; R];
        for n in 0..count {
            let at = n * 16 * E::STEP;
            let mut b = [E::row::<S>(right.data.add(at)); P];
            for p in 1..P {
                b[p] = E::row::<S>(right.data.add(p * right.stride + at));
            }
            for r in 0..R {
                for p in 0..P {
                    sums[r][p] = E::multiply::<S>(left.add(at + r * E::STEP), b[p], sums[r][p]);
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                let to = out.add(r * out_stride + p * 16);
                let sum = sums[r][p];
                S::w_store(to, if add { S::w_add(S::w_load(to), sum) } else { sum });
            }
        }
    }
}

/// 16 rows of `left^T * right`, both of `count` steps, into rows `out_stride` apart.
///
/// # Safety
/// As [`outer`], with 16 rows.
#[inline(always)]
pub(crate) unsafe fn multiply_outer<S: Simd, E: Lanes>(
    left: *const E,
    right: Right<E>,
    count: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        if S::GROUPS == 2 && right.panels == 2 {
            outer::<S, E, 8, 2>(left, right, count, out, out_stride, add);
            outer::<S, E, 8, 2>(
                left.add(8 * E::STEP),
                right,
                count,
                out.add(8 * out_stride),
                out_stride,
                add,
            );
            return;
        }
        for panel in 0..right.panels {
            let right = Right { data: right.data.add(panel * right.stride), ..right };
            let out = out.add(panel * 16);
            if S::GROUPS == 2 {
                outer::<S, E, 16, 1>(left, right, count, out, out_stride, add);
            } else {
                outer::<S, E, 6, 1>(left, right, count, out, out_stride, add);
                let (left, out) = (left.add(6 * E::STEP), out.add(6 * out_stride));
                outer::<S, E, 5, 1>(left, right, count, out, out_stride, add);
                let (left, out) = (left.add(5 * E::STEP), out.add(5 * out_stride));
                outer::<S, E, 5, 1>(left, right, count, out, out_stride, add);
            }
        }
    }
}
