//! Inference: convolution, bias, ReLU and the 3x3 stride-2 max-pool behind them, three rows at a time.
//!
//! Images are packed as padded rows of interleaved colours `[image][row][column][3]`, so that the 21 values that an
//! output reads of one row lie side by side, in bfloat16 as 11 pairs, the last with a zero for a weight. A thread keeps
//! the three rows of the convolution's output that a pooled row reads; each row is computed once, save where threads
//! meet, and none goes to memory.

use std::ops::Range;

use super::geometry::{COLORS, KERNEL, PAD, Stem, TAPS};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::{MapShape, check_len};
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::fuse::store::{Activation, CheckedEpilogue, Epilogue, Store, with_store};
use crate::cpu::pool::MaxPool;
use crate::cpu::simd::{Element, Kernel, Simd, dispatch, elements};

/// Values that an output reads of one row.
const ROW: usize = COLORS * KERNEL;
/// Elements between neighbouring outputs.
const STEP: usize = 2 * COLORS;
/// Neighbouring outputs that AVX-512 computes at once, of two panels: 28 accumulators, and 112 is 8 times 14.
const WIDE: usize = 14;
/// Rows of the convolution's output that a pooled row reads.
const RING: usize = 3;

impl Stem {
    /// Elements of images that are packed for [`Self::forward_pooled`].
    pub fn interleaved_len(&self) -> usize {
        self.batch * self.image_rows() * self.interleaved_row()
    }

    /// Floats of workspace of [`Self::forward_pooled`].
    pub fn pooled_workspace_len<E: Element>(&self) -> usize {
        let elements = self.output.channels * KERNEL * steps::<E>() + self.threads * self.ring().len();
        elements * size_of::<E>() / size_of::<f32>()
    }

    /// `out = max-pool(relu(conv(images, weights * scale) + bias))` of images `(B,3,H,W)`.
    pub fn forward_pooled<E: Element>(
        &self,
        pool: &ThreadPool,
        images: &[f32],
        interleaved: &mut [E],
        weights: &[f32],
        scale: &[f32],
        bias: &[f32],
        out: &mut [E],
        workspace: &mut Buffer,
    ) {
        let channels = self.output.channels;
        let max_pool = MaxPool::new(self.output);
        check_len("images", images, self.batch * COLORS * self.height * self.width);
        check_len("packed images", interleaved, self.interleaved_len());
        check_len("stem weights", weights, channels * TAPS);
        check_len("stem scale", scale, channels);
        check_len("pooled output", out, max_pool.output().len());
        let needed = self.pooled_workspace_len::<E>();
        assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
        assert!(pool.threads() <= self.threads, "planned for {} threads", self.threads);

        let (packed, out) = (SharedMut::new(interleaved), SharedMut::new(out));
        pool.run(|thread| {
            let rows = split(self.batch * self.image_rows(), pool.threads(), thread);
            let kernel = Interleave { stem: *self, images: images.as_ptr(), packed: packed.as_ptr(), rows };
            // SAFETY: the pool's level is available; lengths are checked; rows are disjoint.
            unsafe { dispatch(pool.level(), kernel) }
        });
        let (panels, space) = elements::<E>(workspace).split_at_mut(channels * KERNEL * steps::<E>());
        pack_weights(weights, scale, panels);
        let (ring_shape, space) = (self.ring(), SharedMut::new(space));
        let panels = &*panels;
        pool.run(|thread| {
            let len = ring_shape.len();
            // SAFETY: each thread's own part of the space.
            let ring = unsafe { space.slice(thread * len..(thread + 1) * len) };
            let epilogue = Epilogue::Inference { bias, residual: None, activation: Activation::Relu };
            let kernel = Pooled {
                stem: *self,
                pooled: max_pool.output(),
                packed: packed.as_ptr(),
                panels: panels.as_ptr(),
                ring: ring.as_mut_ptr(),
                epilogue: epilogue.checked(ring_shape, ring, 1),
                out: out.as_ptr(),
                rows: split(self.batch * max_pool.output().height, pool.threads(), thread),
            };
            // SAFETY: the pool's level is available; lengths are checked; rows are disjoint.
            unsafe { dispatch(pool.level(), kernel) }
        });
    }

    /// Room for as many outputs past a row's end as are computed at once.
    fn interleaved_row(&self) -> usize {
        ((self.output.width + WIDE) * STEP + ROW).next_multiple_of(32)
    }

    fn ring(&self) -> MapShape {
        MapShape { batch: 1, height: RING, ..self.output }
    }
}

/// [`ROW`] as whole steps of a product.
const fn steps<E: Element>() -> usize {
    ROW.next_multiple_of(E::STEP)
}

/// OIHW weights times a scale as `[K/16][row][ROW/STEP][16][STEP]`.
fn pack_weights<E: Element>(weights: &[f32], scale: &[f32], panels: &mut [E]) {
    panels.fill(E::default());
    for (k, (filter, scale)) in weights.chunks_exact(TAPS).zip(scale).enumerate() {
        for (tap, weight) in filter.iter().enumerate() {
            let (color, row, column) = (tap / (KERNEL * KERNEL), tap / KERNEL % KERNEL, tap % KERNEL);
            let at = column * COLORS + color;
            let step = ((k / 16) * KERNEL + row) * steps::<E>() + at / E::STEP * E::STEP;
            panels[step * 16 + k % 16 * E::STEP + at % E::STEP] = E::from_f32(weight * scale);
        }
    }
}

/// Packs rows of images.
struct Interleave<E> {
    stem: Stem,
    images: *const f32,
    packed: *mut E,
    rows: Range<usize>,
}

impl<E: Element> Kernel for Interleave<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Stem { height, width, .. } = self.stem;
        let (rows, row_len) = (self.stem.image_rows(), self.stem.interleaved_row());
        for at in self.rows.clone() {
            let (image, y) = (at / rows, at % rows);
            // SAFETY: the row lies inside the packed images, and what is read inside the images.
            unsafe {
                let to = self.packed.add(at * row_len);
                to.write_bytes(0, row_len);
                if y < PAD || y >= PAD + height {
                    continue;
                }
                let mut x = 0;
                while x < width {
                    let count = S::LANES.min(width - x);
                    let mut lanes = [[E::default(); 16]; COLORS];
                    for (color, lanes) in lanes.iter_mut().enumerate() {
                        let plane = (image * COLORS + color) * height + y - PAD;
                        let from = self.images.add(plane * width + x);
                        if count == S::LANES {
                            E::store::<S>(lanes.as_mut_ptr(), S::load(from));
                        } else {
                            for (i, lane) in lanes[..count].iter_mut().enumerate() {
                                *lane = E::from_f32(*from.add(i));
                            }
                        }
                    }
                    let to = to.add((PAD + x) * COLORS);
                    for i in 0..count {
                        for color in 0..COLORS {
                            *to.add(i * COLORS + color) = lanes[color][i];
                        }
                    }
                    x += count;
                }
            }
        }
    }
}

struct Pooled<E> {
    stem: Stem,
    /// Shape of the output.
    pooled: MapShape,
    packed: *const E,
    panels: *const E,
    /// Row `y` of the convolution's output in place `y % 3`.
    ring: *mut E,
    epilogue: CheckedEpilogue<E>,
    out: *mut E,
    /// Rows of the output.
    rows: Range<usize>,
}

impl<E: Element> Kernel for Pooled<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (height, pooled_height) = (self.stem.output.height, self.pooled.height);
        let mut have = None;
        for at in self.rows.clone() {
            let (image, row) = (at / pooled_height, at % pooled_height);
            let first = (2 * row).saturating_sub(1);
            let last = height.min(2 * row + 2);
            for y in first..last {
                // The row above is the last of the pooled row before, if that is this thread's.
                if have != Some((image, y)) {
                    // SAFETY: the maker of this kernel checked the lengths.
                    unsafe { with_store!(self.epilogue, store => self.convolve::<S, _>(store, image, y)) }
                    have = Some((image, y));
                }
            }
            // SAFETY: as above, and the ring holds the rows.
            unsafe { self.pool::<S>(at, first..last) }
        }
    }
}

impl<E: Element> Pooled<E> {
    /// Computes row `y` of the convolution's output into the ring.
    ///
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn convolve<S: Simd, T: Store>(&self, store: T, image: usize, y: usize) {
        let blocks = self.stem.output.channels / 16;
        let mut block = 0;
        while block < blocks {
            // SAFETY: the caller's promises.
            unsafe {
                if S::GROUPS == 2 && blocks - block >= 2 {
                    self.panels::<S, T, WIDE, 2>(store, image, y, block);
                    block += 2;
                } else if S::GROUPS == 2 {
                    self.panels::<S, T, WIDE, 1>(store, image, y, block);
                    block += 1;
                } else {
                    self.panels::<S, T, 6, 1>(store, image, y, block);
                    block += 1;
                }
            }
        }
    }

    /// [`Self::convolve`] for `P` blocks of 16 channels, `R` outputs at a time.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn panels<S: Simd, T: Store, const R: usize, const P: usize>(
        &self,
        store: T,
        image: usize,
        y: usize,
        block: usize,
    ) {
        let stem = &self.stem;
        let MapShape { width, channels, .. } = stem.output;
        let panel_len = 16 * KERNEL * steps::<E>();
        let mut products = [[[0.0f32; 16]; P]; R];
        // SAFETY: rows 2y .. 2y + 7 of the padded image, which have room for `R` outputs past their end.
        unsafe {
            let image = self.packed.add((image * stem.image_rows() + 2 * y) * stem.interleaved_row());
            let panels = self.panels.add(block * panel_len);
            let mut x = 0;
            while x < width {
                let mut sums = [[S::w_zero(); P]; R];
                for row in 0..KERNEL {
                    let from = image.add(row * stem.interleaved_row() + x * STEP);
                    let panels = panels.add(row * 16 * steps::<E>());
                    let mut lane = 0;
                    while lane < ROW {
                        let mut b = [E::row::<S>(panels.add(lane * 16)); P];
                        for p in 1..P {
                            b[p] = E::row::<S>(panels.add(p * panel_len + lane * 16));
                        }
                        for r in 0..R {
                            for p in 0..P {
                                sums[r][p] = E::multiply::<S>(from.add(r * STEP + lane), b[p], sums[r][p]);
                            }
                        }
                        lane += E::STEP;
                    }
                }
                for r in 0..R {
                    for p in 0..P {
                        S::w_store(products[r][p].as_mut_ptr(), sums[r][p]);
                    }
                }
                for p in 0..P {
                    let mut half = 0;
                    while half < 16 {
                        let channel = (block + p) * 16 + half;
                        let mut run = store.begin::<S>(channel);
                        for r in 0..R.min(width - x) {
                            let offset = (y % RING * width + x + r) * channels + channel;
                            store.apply::<S>(&mut run, S::load(products[r][p].as_ptr().add(half)), offset);
                        }
                        store.end::<S>(run, 0, channel);
                        half += S::LANES;
                    }
                }
                x += R;
            }
        }
    }

    /// Pools the rows `ys` of the ring into row `at` of the output.
    ///
    /// # Safety
    /// As [`Self::convolve`]; the rows are in the ring.
    #[inline(always)]
    unsafe fn pool<S: Simd>(&self, at: usize, ys: Range<usize>) {
        let MapShape { width, channels, .. } = self.stem.output;
        let mut channel = 0;
        while channel < channels {
            // SAFETY: the caller's promises; columns are inside the map.
            unsafe {
                // The column to the left of a window is the right one of the window before.
                let mut shared = S::splat(f32::NEG_INFINITY);
                for x in 0..self.pooled.width {
                    let middle = self.column::<S>(&ys, 2 * x, channel);
                    let mut best = S::pick(middle, shared, middle, shared);
                    if 2 * x + 1 < width {
                        shared = self.column::<S>(&ys, 2 * x + 1, channel);
                        best = S::pick(shared, best, shared, best);
                    }
                    E::store::<S>(self.out.add((at * self.pooled.width + x) * channels + channel), best);
                }
            }
            channel += S::LANES;
        }
    }

    /// The largest values of a column.
    ///
    /// # Safety
    /// As [`Self::pool`].
    #[inline(always)]
    unsafe fn column<S: Simd>(&self, ys: &Range<usize>, x: usize, channel: usize) -> S::V {
        let MapShape { width, channels, .. } = self.stem.output;
        // SAFETY: the caller's promises.
        unsafe {
            let mut best = S::splat(f32::NEG_INFINITY);
            for y in ys.clone() {
                let v = E::load::<S>(self.ring.add((y % RING * width + x) * channels + channel));
                best = S::pick(v, best, v, best);
            }
            best
        }
    }
}
