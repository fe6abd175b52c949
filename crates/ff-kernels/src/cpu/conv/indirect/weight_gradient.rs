//! The weight gradient of an indirect convolution: per tap, a sum over pixels of outer products.
//!
//! Pixels are packed `[C/16][pixel/STEP][16][STEP]`, one tap at a time, next to `[K/16][pixel/STEP][16][STEP]` of the
//! output's gradient. Threads split the output channels, and the pixels where that leaves threads over.

use std::ops::Range;

use super::geometry::IndirectConv;
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::{MapShape, check_len};
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::conv::outer::{Right, multiply_outer};
use crate::cpu::conv::taps::store_taps;
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::load::{CheckedSource, Load, with_load};
use crate::cpu::simd::{Element, Kernel, Octet, Simd, dispatch};

/// Pixels packed at once: 384 bytes a channel.
const fn pixels<E>() -> usize {
    384 / size_of::<E>()
}

impl<E: Element> IndirectConv<E> {
    /// Floats of workspace that [`Self::weight_gradient`] needs.
    pub fn gradient_workspace_len(&self) -> usize {
        workspace(self.input, self.output, self.taps(), self.threads)
    }

    /// `grad_weights (K,C,R,R) = d loss / d weights`, overwritten.
    pub fn weight_gradient(
        &self,
        pool: &ThreadPool,
        x: &[E],
        grad_out: FusedLoad<'_, E>,
        grad_weights: &mut [f32],
        workspace: &mut Buffer,
    ) {
        check_len("convolution input", x, self.input.len());
        check_len("convolution weight gradient", grad_weights, self.packed_len());
        let dy = grad_out.checked("convolution output gradient", self.output);
        let shape =
            Shape { input: self.input, output: self.output, kernel: self.kernel, stride: self.stride };
        run(pool, shape, x, dy, grad_weights, workspace);
    }
}

/// The convolution's shape.
#[derive(Clone, Copy)]
struct Shape {
    input: MapShape,
    output: MapShape,
    kernel: usize,
    stride: usize,
}

/// Threads over output channels and over pixels: at least 64 channels each, as packing repeats.
fn grid(outer: usize, threads: usize) -> (usize, usize) {
    let by_channels = threads.min((outer / 64).max(1));
    (by_channels, threads / by_channels)
}

/// Floats of one copy of the products.
fn products_len(input: MapShape, output: MapShape, taps: usize) -> usize {
    taps * input.channels * output.channels
}

/// Floats of a thread's packed pixels.
fn packed_len(input: MapShape, output: MapShape) -> usize {
    pixels::<f32>() * (input.channels + output.channels)
}

fn workspace(input: MapShape, output: MapShape, taps: usize, threads: usize) -> usize {
    let (_, by_pixels) = grid(output.channels, threads);
    by_pixels * products_len(input, output, taps) + threads * packed_len(input, output)
}

fn run<E: Element>(
    pool: &ThreadPool,
    shape: Shape,
    x: &[E],
    dy: CheckedSource<E>,
    grad: &mut [f32],
    space: &mut Buffer,
) {
    let Shape { input, output, kernel, .. } = shape;
    let threads = pool.threads();
    let needed = workspace(input, output, kernel * kernel, threads);
    assert!(space.len() >= needed, "workspace: expected {needed} floats, found {}", space.len());
    assert!(grad.len() == products_len(input, output, kernel * kernel), "checked by the caller");
    assert!(x.len() == input.len(), "checked by the caller");
    let (by_channels, by_pixels) = grid(output.channels, threads);
    let (products, packed) = space.split_at_mut(by_pixels * products_len(input, output, kernel * kernel));
    let (products, packed, grad) = (SharedMut::new(products), SharedMut::new(packed), SharedMut::new(grad));
    let job = |thread: usize| WeightGradient {
        shape,
        x: x.as_ptr(),
        dy,
        grad: grad.as_ptr(),
        products: products.as_ptr(),
        // SAFETY: inside the space checked above.
        packed: unsafe { packed.as_ptr().add(thread * packed_len(input, output)).cast() },
        by_channels,
        by_pixels,
        thread,
        threads,
        merge: false,
    };
    pool.run(|thread| {
        if thread < by_channels * by_pixels {
            // SAFETY: the pool's level is available; lengths are checked above; products are disjoint.
            unsafe { dispatch(pool.level(), job(thread)) }
        }
    });
    pool.run(|thread| {
        // SAFETY: as above; merged parts are disjoint.
        unsafe { dispatch(pool.level(), WeightGradient { merge: true, ..job(thread) }) }
    });
}

struct WeightGradient<E> {
    shape: Shape,
    x: *const E,
    dy: CheckedSource<E>,
    grad: *mut f32,
    products: *mut f32,
    packed: *mut E,
    by_channels: usize,
    by_pixels: usize,
    thread: usize,
    threads: usize,
    merge: bool,
}

impl<E: Element> Kernel for WeightGradient<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `run` above checked the lengths.
        unsafe {
            if self.merge {
                self.merge::<S::Octet>();
            } else {
                with_load!(self.dy, load => self.multiply::<S, _>(load))
            }
        }
    }
}

impl<E: Element> WeightGradient<E> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn multiply<S: Simd, L: Load>(&self, load: L) {
        let Shape { input, output, kernel, .. } = self.shape;
        let (part, piece) = (self.thread % self.by_channels, self.thread / self.by_channels);
        let blocks = split(output.channels / 16, self.by_channels, part);
        let mine = split(output.pixels(), self.by_pixels, piece);
        let block_len = pixels::<E>() * 16;
        let taps = kernel * kernel;
        // SAFETY: `run` checked the spaces; each thread has its own copy or columns of the products.
        unsafe {
            let products = self.products.add(piece * products_len(input, output, taps));
            let packed_dy = self.packed.add(pixels::<E>() * input.channels);
            let mut first = mine.start;
            loop {
                let count = pixels::<E>().min(mine.end - first);
                self.pack_dy::<S, L>(load, first, count, blocks.clone(), packed_dy);
                for tap in 0..taps {
                    self.pack_x::<S>(first, count, tap);
                    for channels in 0..input.channels / 16 {
                        let left = self.packed.add(channels * block_len);
                        let mut block = blocks.start;
                        while block < blocks.end {
                            let panels = 2.min(blocks.end - block);
                            let right = packed_dy.add(block * block_len).cast_const();
                            let right = Right { data: right, stride: block_len, panels };
                            let row = tap * input.channels + channels * 16;
                            let out = products.add(row * output.channels + block * 16);
                            let (add, steps) = (first > mine.start, count.div_ceil(E::STEP));
                            multiply_outer::<S, E>(left, right, steps, out, output.channels, add);
                            block += panels;
                        }
                    }
                }
                first += count;
                if first >= mine.end {
                    break;
                }
            }
        }
    }

    /// # Safety
    /// As `multiply`.
    #[inline(always)]
    unsafe fn pack_dy<S: Simd, L: Load>(
        &self,
        load: L,
        first: usize,
        count: usize,
        blocks: Range<usize>,
        to: *mut E,
    ) {
        let channels = self.shape.output.channels;
        let mut channel = blocks.start * 16;
        while channel < blocks.end * 16 {
            // SAFETY: the caller's promises.
            unsafe {
                let k = load.constants::<S>(channel);
                let to = to.add(channel / 16 * pixels::<E>() * 16 + channel % 16 * E::STEP);
                for i in 0..count {
                    let v = load.load::<S>((first + i) * channels + channel, &k);
                    E::store_step::<S>(to.add(i / E::STEP * E::STEP * 16), v, i % E::STEP);
                }
            }
            channel += S::LANES;
        }
    }

    /// # Safety
    /// As `multiply`.
    #[inline(always)]
    unsafe fn pack_x<S: Simd>(&self, first: usize, count: usize, tap: usize) {
        let Shape { input, output, kernel, stride } = self.shape;
        let pad = (kernel / 2) as isize;
        for i in 0..count {
            let (row, column) = ((first + i) / output.width, (first + i) % output.width);
            let (image, row) = (row / output.height, row % output.height);
            let y = (row * stride + tap / kernel) as isize - pad;
            let x = (column * stride + tap % kernel) as isize - pad;
            let inside = y >= 0 && x >= 0 && y < input.height as isize && x < input.width as isize;
            // SAFETY: the caller's promises; pixels outside the map are not read.
            unsafe {
                let to = self.packed.add(i / E::STEP * E::STEP * 16);
                let pixel = inside.then(|| (image * input.height + y as usize) * input.width + x as usize);
                let mut channel = 0;
                while channel < input.channels {
                    let v = match pixel {
                        Some(pixel) => E::load::<S>(self.x.add(pixel * input.channels + channel)),
                        None => S::splat(0.0),
                    };
                    let to = to.add(channel / 16 * pixels::<E>() * 16 + channel % 16 * E::STEP);
                    E::store_step::<S>(to, v, i % E::STEP);
                    channel += S::LANES;
                }
            }
        }
    }

    /// Adds the copies of the products and writes them as OIHW.
    ///
    /// # Safety
    /// As `multiply`.
    #[inline(always)]
    unsafe fn merge<O: Octet>(&self) {
        let Shape { input, output, kernel, .. } = self.shape;
        let (inner, outer, taps) = (input.channels, output.channels, kernel * kernel);
        let copy = products_len(input, output, taps);
        for item in split(outer / 8 * inner, self.threads, self.thread) {
            let (octet, channel) = (item / inner, item % inner);
            // SAFETY: inside products and gradient, as `run` checked.
            unsafe {
                let mut rows = [O::splat(0.0); 9];
                for tap in 0..taps {
                    let from = self.products.add((tap * inner + channel) * outer + octet * 8);
                    for piece in 0..self.by_pixels {
                        rows[tap] = O::add(rows[tap], O::load(from.add(piece * copy)));
                    }
                }
                let to = self.grad.add((octet * 8 * inner + channel) * taps);
                if taps == 9 {
                    store_taps::<O>(to, inner * 9, rows);
                } else {
                    let mut row = [0.0f32; 8];
                    O::store(row.as_mut_ptr(), rows[0]);
                    for i in 0..8 {
                        *to.add(i * inner) = row[i];
                    }
                }
            }
        }
    }
}
