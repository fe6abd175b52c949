//! The forward convolution, over images that are packed first.

use std::ops::Range;

use super::geometry::{COLORS, PAD, Stem, TAP_ROWS, TAPS};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::{ThreadPool, split};
use crate::cpu::fuse::store::{CheckedEpilogue, Epilogue, Store, with_store};
use crate::cpu::simd::{Element, Kernel, Simd, dispatch};

impl Stem {
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
    pub fn forward<E: Element>(
        &self,
        pool: &ThreadPool,
        packed: &[f32],
        weights: &[f32],
        scale: Option<&[f32]>,
        out: &mut [E],
        epilogue: Epilogue<'_, E>,
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
        let epilogue = epilogue.checked(self.output, out, pool.threads());
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
}

struct Forward<E> {
    stem: Stem,
    packed: *const f32,
    panels: *const f32,
    epilogue: CheckedEpilogue<E>,
    rows: Range<usize>,
    thread: usize,
}

impl<E: Element> Kernel for Forward<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the maker of this kernel checked the lengths.
        unsafe { with_store!(self.epilogue, store => self.go::<S, _>(store)) }
    }
}

impl<E: Element> Forward<E> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, T: Store>(&self, store: T) {
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
                    let mut low = store.begin::<S>(channel);
                    let mut high = store.begin::<S>(channel + 16 - S::LANES);
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
                            store.apply::<S>(&mut low, S::load(product), offset);
                            if S::LANES == 8 {
                                store.apply::<S>(&mut high, S::load(product.add(8)), offset + 8);
                            }
                        }
                        x += step;
                    }
                    store.end::<S>(low, self.thread, channel);
                    if S::LANES == 8 {
                        store.end::<S>(high, self.thread, channel + 8);
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
