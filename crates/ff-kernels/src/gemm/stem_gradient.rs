//! One output row's part of the stem's weight gradient.

use super::stem::{Stem, TAP_ROWS, TAPS};
use crate::batchnorm::Coefficients;
use crate::simd::{Kernel, Simd};

/// Adds one output row's part of the weight gradient to `sums [K/16][tap][16]`.
pub(crate) struct WeightGradientRow<'a> {
    pub(crate) stem: Stem,
    pub(crate) packed: &'a [f32],
    pub(crate) image: usize,
    pub(crate) y: usize,
    /// Gradient of the BatchNorm's output, one row.
    pub(crate) grad: &'a [f32],
    /// The stem's output, the same row.
    pub(crate) raw: &'a [f32],
    pub(crate) coefficients: &'a Coefficients,
    /// `[K/16][column][16]`
    pub(crate) blocked: &'a mut [f32],
    pub(crate) sums: &'a mut [f32],
}

impl Kernel for WeightGradientRow<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the maker of this kernel checked the lengths.
        unsafe {
            if S::GROUPS == 2 {
                self.go::<S, 12>();
            } else {
                self.go::<S, 6>();
            }
        }
    }
}

impl WeightGradientRow<'_> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, const R: usize>(self) {
        let stem = &self.stem;
        let (offsets, width) = (stem.offsets(), stem.output().width);
        let channels = stem.output().channels;
        let Coefficients { on_grad, on_raw, constant } = self.coefficients;
        let mut channel = 0;
        while channel < channels {
            // SAFETY: rows of `width` pixels, checked coefficients.
            unsafe {
                let a = S::load(on_grad.as_ptr().add(channel));
                let b = S::load(on_raw.as_ptr().add(channel));
                let c = S::load(constant.as_ptr().add(channel));
                let to = self.blocked.as_mut_ptr().add(channel / 16 * width * 16 + channel % 16);
                for x in 0..width {
                    let at = x * channels + channel;
                    let raw = S::fma(S::load(self.raw.as_ptr().add(at)), b, c);
                    S::store(to.add(x * 16), S::fma(S::load(self.grad.as_ptr().add(at)), a, raw));
                }
            }
            channel += S::LANES;
        }
        // SAFETY: rows 2y .. 2y + 7 of the padded image, columns below the output's width plus 3.
        unsafe {
            let from =
                self.packed.as_ptr().add(self.image * stem.image_len() + 2 * self.y * 2 * stem.row_len());
            for block in 0..stem.output().channels / 16 {
                let gradient = self.blocked.as_ptr().add(block * width * 16);
                let sums = self.sums.as_mut_ptr().add(block * TAP_ROWS * 16);
                let mut tap = 0;
                while tap < TAPS {
                    let mut rows = [from; R];
                    for r in 0..R {
                        rows[r] = from.add(offsets[tap + r]);
                    }
                    let mut total = [S::w_zero(); R];
                    for x in 0..width {
                        let b = S::w_load(gradient.add(x * 16));
                        for r in 0..R {
                            total[r] = S::w_fma(S::splat(*rows[r].add(x)), b, total[r]);
                        }
                    }
                    for r in 0..R {
                        let to = sums.add((tap + r) * 16);
                        S::w_store(to, S::w_add(S::w_load(to), total[r]));
                    }
                    tap += R;
                }
            }
        }
    }
}
