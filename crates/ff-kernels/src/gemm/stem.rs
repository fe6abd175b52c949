//! The 7x7 stride-2 pad-3 convolution of 3-channel images: forward and weight gradient (images need no gradient).
//!
//! Images `(B,3,H,W)` are packed once into padded rows whose even and odd columns lie apart, so that
//! neighbouring outputs read neighbouring floats for every tap and the micro-kernel needs no im2col:
//! `[image][channel][row][parity][column]`. The packed images serve forward and weight gradient.

use std::ops::Range;

use super::stem_gradient::WeightGradientRow;
use crate::batchnorm::Coefficients;
use crate::buffer::Buffer;
use crate::epilogue::{Epilogue, GRADIENT, INFERENCE, RawEpilogue, STATISTICS, STORE};
use crate::pool::{MaxPool, PooledGradient};
use crate::shape::{MapShape, check_at_least, check_channels, check_len, product};
use crate::simd::{Kernel, Simd, dispatch};
use crate::threads::{SharedMut, ThreadPool, split};

const KERNEL: usize = 7;
const PAD: usize = 3;
const COLORS: usize = 3;
pub(crate) const TAPS: usize = COLORS * KERNEL * KERNEL;
/// Taps rounded up to rows of the widest micro-kernel.
pub(crate) const TAP_ROWS: usize = TAPS.next_multiple_of(12);

/// The stem convolution of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Stem {
    batch: usize,
    height: usize,
    width: usize,
    output: MapShape,
    threads: usize,
}

/// The gradient of the stem convolution's output, computed on the fly from the max-pool behind it.
#[derive(Clone, Copy)]
pub struct StemGradient<'a> {
    /// The pool whose input is `relu(batchnorm(stem output))`.
    pub pool: MaxPool,
    /// Gradient of the pool's output, zero where that output is not positive.
    pub grad: &'a [f32],
    /// The pool's choices.
    pub argmax: &'a [u8],
    /// The stem convolution's output.
    pub raw: &'a [f32],
    /// Of the BatchNorm between.
    pub coefficients: &'a Coefficients,
}

impl Stem {
    /// A stem of `(batch, 3, height, width)` images to `out_channels` channels.
    ///
    /// # Panics
    /// Channels that are no multiple of 16; a size that there is no stem of.
    pub fn new(batch: usize, height: usize, width: usize, out_channels: usize, threads: usize) -> Self {
        check_channels("stem output", out_channels);
        assert!(batch > 0 && height > 0 && width > 0, "a stem needs at least one pixel");
        let out = |n: usize| (n - 1) / 2 + 1;
        let output = MapShape { batch, height: out(height), width: out(width), channels: out_channels };
        let stem = Self { batch, height, width, output, threads };
        // None of the lengths below may wrap.
        output.len();
        product("stem weights", &[out_channels, TAP_ROWS]);
        product("padded images", &[batch, COLORS, height.saturating_add(2 * PAD + 1), 2, stem.row_len()]);
        stem
    }

    /// The same stem for another number of images.
    pub fn with_batch(&self, batch: usize) -> Self {
        Self::new(batch, self.height, self.width, self.output.channels, self.threads)
    }

    /// Shape of the output.
    pub fn output(&self) -> MapShape {
        self.output
    }

    /// Multiply-adds.
    pub fn macs(&self) -> usize {
        self.output.len() * TAPS
    }

    /// Floats of the packed images.
    pub fn packed_len(&self) -> usize {
        self.batch * self.image_len()
    }

    /// Floats of workspace, for both directions.
    pub fn workspace_len(&self) -> usize {
        let channels = self.output.channels;
        let weight_gradient = self.threads * (channels * TAP_ROWS + 2 * self.output.width * channels);
        weight_gradient.max(channels * TAPS)
    }

    pub(crate) fn row_len(&self) -> usize {
        (self.output.width + 16).next_multiple_of(8)
    }

    fn image_rows(&self) -> usize {
        self.height + 2 * PAD + 1
    }

    pub(crate) fn image_len(&self) -> usize {
        COLORS * self.image_rows() * 2 * self.row_len()
    }

    /// Offsets of every tap from the packed place of an output pixel.
    pub(crate) fn offsets(&self) -> [usize; TAP_ROWS] {
        let mut offsets = [0; TAP_ROWS];
        for (tap, offset) in offsets[..TAPS].iter_mut().enumerate() {
            let (color, r, s) = (tap / 49, tap / KERNEL % KERNEL, tap % KERNEL);
            *offset = ((color * self.image_rows() + r) * 2 + s % 2) * self.row_len() + s / 2;
        }
        offsets
    }

    /// Packs `images (B,3,H,W)`.
    pub fn pack_images(&self, pool: &ThreadPool, images: &[f32], packed: &mut [f32]) {
        check_len("images", images, self.batch * COLORS * self.height * self.width);
        check_len("packed images", packed, self.packed_len());
        let (rows, row_len) = (self.image_rows(), self.row_len());
        pool.for_each_rows(packed, 2 * row_len, |first, chunk| {
            for (i, row) in chunk.chunks_exact_mut(2 * row_len).enumerate() {
                let (plane, y) = ((first + i) / rows, (first + i) % rows);
                row.fill(0.0);
                if y < PAD || y >= PAD + self.height {
                    continue;
                }
                let from = &images[(plane * self.height + y - PAD) * self.width..][..self.width];
                let (even, odd) = row.split_at_mut(row_len);
                // Image column x is padded column x + 3: the first one is odd.
                for (x, pair) in from.chunks(2).enumerate() {
                    odd[x + 1] = pair[0];
                    if let Some(&second) = pair.get(1) {
                        even[x + 2] = second;
                    }
                }
            }
        });
    }

    /// `out = epilogue(conv(images, weights * scale))`, images packed by [`Self::pack_images`].
    pub fn forward(
        &self,
        pool: &ThreadPool,
        packed: &[f32],
        weights: &[f32],
        scale: Option<&[f32]>,
        out: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        check_len("packed images", packed, self.packed_len());
        check_len("stem weights", weights, self.output.channels * TAPS);
        assert!(workspace.len() >= self.workspace_len(), "workspace: too short for the stem");
        let panels = &mut workspace[..self.output.channels * TAPS];
        for (k, row) in weights.chunks_exact(TAPS).enumerate() {
            let factor = scale.map_or(1.0, |scale| scale[k]);
            for (tap, &w) in row.iter().enumerate() {
                panels[((k / 16) * TAPS + tap) * 16 + k % 16] = w * factor;
            }
        }
        let epilogue = RawEpilogue::checked(self.output, out, epilogue, pool.threads());
        let panels = &*panels;
        pool.run(|thread| {
            let rows = split(self.batch * self.output.height, pool.threads(), thread);
            let kernel = Forward {
                stem: *self,
                packed: packed.as_ptr(),
                panels: panels.as_ptr(),
                epilogue,
                rows,
                thread,
            };
            // SAFETY: the pool's level is available; lengths are checked; rows are disjoint.
            unsafe { dispatch(pool.level(), kernel) }
        });
    }

    /// `grad_weights (K,3,7,7) = d loss / d weights`, overwritten.
    pub fn weight_gradient(
        &self,
        pool: &ThreadPool,
        packed: &[f32],
        grad_out: StemGradient<'_>,
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

struct Forward {
    stem: Stem,
    packed: *const f32,
    panels: *const f32,
    epilogue: RawEpilogue,
    rows: Range<usize>,
    thread: usize,
}

impl Kernel for Forward {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the maker of this kernel checked the lengths.
        unsafe {
            match self.epilogue.kind {
                STATISTICS => self.go::<S, STATISTICS>(),
                INFERENCE => self.go::<S, INFERENCE>(),
                GRADIENT => self.go::<S, GRADIENT>(),
                _ => self.go::<S, STORE>(),
            }
        }
    }
}

impl Forward {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, const KIND: u8>(&self) {
        let stem = &self.stem;
        let (offsets, channels, width) = (stem.offsets(), stem.output.channels, stem.output.width);
        let mut products = [0.0f32; 12 * 16];
        for at in self.rows.clone() {
            let (image, y) = (at / stem.output.height, at % stem.output.height);
            // SAFETY: rows 2y .. 2y + 7 of the padded image; a row has room for 12 pixels past its end.
            unsafe {
                let from = self.packed.add(image * stem.image_len() + 2 * y * 2 * stem.row_len());
                for block in 0..channels / 16 {
                    let weights = self.panels.add(block * TAPS * 16);
                    let channel = block * 16;
                    let mut low = self.epilogue.begin::<S, KIND>(channel);
                    let mut high = self.epilogue.begin::<S, KIND>(channel + 16 - S::LANES);
                    let mut x = 0;
                    while x < width {
                        let step = if S::GROUPS == 2 {
                            pixels::<S, 12>(from.add(x), &offsets, weights, products.as_mut_ptr());
                            12
                        } else {
                            pixels::<S, 6>(from.add(x), &offsets, weights, products.as_mut_ptr());
                            6
                        };
                        for i in 0..step.min(width - x) {
                            let offset = (at * width + x + i) * channels + channel;
                            let product = products.as_ptr().add(i * 16);
                            self.epilogue.apply::<S, KIND>(&mut low, S::load(product), offset);
                            if S::LANES == 8 {
                                self.epilogue.apply::<S, KIND>(
                                    &mut high,
                                    S::load(product.add(8)),
                                    offset + 8,
                                );
                            }
                        }
                        x += step;
                    }
                    self.epilogue.end::<S, KIND>(low, self.thread, channel);
                    if S::LANES == 8 {
                        self.epilogue.end::<S, KIND>(high, self.thread, channel + 8);
                    }
                }
            }
        }
    }
}

/// `R` neighbouring pixels of one row, 16 output channels.
///
/// # Safety
/// `S` available; `from` covers every offset plus `R`, `weights` all taps, `to` `R` rows of 16.
#[inline(always)]
unsafe fn pixels<S: Simd, const R: usize>(
    from: *const f32,
    offsets: &[usize; TAP_ROWS],
    weights: *const f32,
    to: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [S::w_zero(); R];
        for tap in 0..TAPS {
            let b = S::w_load(weights.add(tap * 16));
            let a = from.add(offsets[tap]);
            for r in 0..R {
                sums[r] = S::w_fma(S::splat(*a.add(r)), b, sums[r]);
            }
        }
        for r in 0..R {
            S::w_store(to.add(r * 16), sums[r]);
        }
    }
}
