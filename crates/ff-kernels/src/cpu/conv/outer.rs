//! The micro-kernel of weight gradients: a sum of outer products, a block of it in registers.
//!
//! Up to 6 rows of 16 at a time (12 vectors of AVX2 as accumulators); AVX-512 takes 16 rows. Each step loads 16 values
//! of one operand and broadcasts one value a row of the other.

use crate::cpu::simd::Simd;

/// `out[row][0..16] (+)= sum over n of left[n][row] * right[n][0..16]` for `R` rows.
///
/// # Safety
/// `S` available; `left` and `right` are `[count][16]` (`left` may point into its row); `out` is `R` rows
/// `out_stride` apart.
#[inline(always)]
unsafe fn outer<S: Simd, const R: usize>(
    left: *const f32,
    right: *const f32,
    count: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [S::w_zero(); R];
        for n in 0..count {
            let b = S::w_load(right.add(n * 16));
            for r in 0..R {
                sums[r] = S::w_fma(S::splat(*left.add(n * 16 + r)), b, sums[r]);
            }
        }
        for r in 0..R {
            let to = out.add(r * out_stride);
            let sum = if add { S::w_add(S::w_load(to), sums[r]) } else { sums[r] };
            S::w_store(to, sum);
        }
    }
}

/// A 16x16 block of `left^T * right`, both `[count][16]`, into rows `out_stride` apart.
///
/// # Safety
/// As [`outer`], with 16 rows.
#[inline(always)]
pub(crate) unsafe fn multiply_outer<S: Simd>(
    left: *const f32,
    right: *const f32,
    count: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        if S::GROUPS == 2 {
            outer::<S, 16>(left, right, count, out, out_stride, add);
        } else {
            outer::<S, 6>(left, right, count, out, out_stride, add);
            outer::<S, 5>(left.add(6), right, count, out.add(6 * out_stride), out_stride, add);
            outer::<S, 5>(left.add(11), right, count, out.add(11 * out_stride), out_stride, add);
        }
    }
}
