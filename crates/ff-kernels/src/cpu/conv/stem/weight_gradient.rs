//! The weight gradient, a row of outputs at a time, from the gradient of the max-pool behind the stem.

use super::geometry::{Stem, TAP_ROWS, TAPS};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::{check_at_least, check_len};
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::norm::Coefficients;
use crate::cpu::pool::max::{MaxPool, PooledGradient};
use crate::cpu::simd::{Element, Kernel, Simd, dispatch};

/// The gradient of the stem convolution's output, computed on the fly from the max-pool behind it.
#[derive(Clone, Copy)]
pub struct StemGradient<'a, E = f32> {
    /// The pool whose input is `relu(batchnorm(stem output))`.
    pub pool: MaxPool,
    /// Gradient of the pool's output, zero where that output is not positive.
    pub grad: &'a [E],
    /// The pool's choices.
    pub argmax: &'a [u8],
    /// The stem convolution's output.
    pub raw: &'a [E],
    /// Of the BatchNorm between.
    pub coefficients: &'a Coefficients,
}

impl Stem {
    /// `grad_weights (K,3,7,7) = d loss / d weights`, overwritten.
    pub fn weight_gradient<E: Element>(
        &self,
        pool: &ThreadPool,
        packed: &[f32],
        grad_out: StemGradient<'_, E>,
        grad_weights: &mut [f32],
        workspace: &mut Buffer,
    ) {
        let channels = self.output.channels;
        check_len("packed images", packed, self.packed_len());
        check_len("stem weight gradient", grad_weights, channels * TAPS);
        assert!(workspace.len() >= self.workspace_len(), "workspace: too short for the stem");
        assert!(pool.threads() <= self.threads, "planned for {} threads", self.threads);
        assert!(grad_out.pool.input() == self.output, "the pool's input is the stem's output");
        check_len("stem output", grad_out.raw, self.output.len());
        let gradient = PooledGradient::checked(&grad_out.pool, grad_out.grad, grad_out.argmax);
        let Coefficients { on_grad, on_raw, constant } = grad_out.coefficients;
        for part in [on_grad, on_raw, constant] {
            check_at_least("stem coefficients", part, channels);
        }
        let (row_len, sums_len) = (self.output.width * channels, channels * TAP_ROWS);
        let private_len = 2 * row_len + sums_len;
        let space = SharedMut::new(workspace);
        pool.run(|thread| {
            // SAFETY: each thread's own part.
            let own = unsafe { space.slice(thread * private_len..(thread + 1) * private_len) };
            let (sums, rows) = own.split_at_mut(sums_len);
            let (row, blocked) = rows.split_at_mut(row_len);
            sums.fill(0.0);
            for at in split(self.batch * self.output.height, pool.threads(), thread) {
                let (image, y) = (at / self.output.height, at % self.output.height);
                gradient.row(pool.level(), image, y, row);
                let kernel = WeightGradientRow {
                    stem: *self,
                    packed,
                    image,
                    y,
                    grad: row,
                    raw: &grad_out.raw[at * row_len..][..row_len],
                    coefficients: grad_out.coefficients,
                    blocked,
                    sums,
                };
                // SAFETY: the pool's level is available; the parts have the lengths of this shape.
                unsafe { dispatch(pool.level(), kernel) }
            }
        });
        let copies: &[f32] = workspace;
        for (k, row) in grad_weights.chunks_exact_mut(TAPS).enumerate() {
            for (tap, to) in row.iter_mut().enumerate() {
                let at = ((k / 16) * TAP_ROWS + tap) * 16 + k % 16;
                *to = (0..pool.threads()).map(|thread| copies[thread * private_len + at]).sum();
            }
        }
    }
}

/// Adds one output row's part of the weight gradient to `sums [K/16][tap][16]`.
struct WeightGradientRow<'a, E> {
    stem: Stem,
    packed: &'a [f32],
    image: usize,
    y: usize,
    /// Gradient of the BatchNorm's output, one row.
    grad: &'a [f32],
    /// The stem's output, the same row.
    raw: &'a [E],
    coefficients: &'a Coefficients,
    /// `[K/16][column][16]`
    blocked: &'a mut [f32],
    sums: &'a mut [f32],
}

impl<E: Element> Kernel for WeightGradientRow<'_, E> {
    const BF16: bool = E::BF16;

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

impl<E: Element> WeightGradientRow<'_, E> {
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
                    let raw = S::fma(E::load::<S>(self.raw.as_ptr().add(at)), b, c);
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
