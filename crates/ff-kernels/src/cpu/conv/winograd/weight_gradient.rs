//! The weight gradient: F(3x3, 4x4), a sum over tiles.
//!
//! `dW = output3( sum over tiles of input(X tile) * filter4(dY tile) )`, per pair of channels.

use std::ops::Range;

use super::blocking::GradientBlocking;
use super::geometry::Conv3x3;
use super::tiles::{Items, Packing, Tiling, pack_gradients, pack_inputs};
use super::transforms::{XI, output_tile3};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::MapShape;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::conv::outer::multiply_outer;
use crate::cpu::conv::taps::store_taps;
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::load::{CheckedSource, with_load};
use crate::cpu::simd::{Element, Kernel, Octet, Simd, dispatch};

impl<E: Element> Conv3x3<E> {
    /// `grad_weights (K,C,3,3) = d loss / d weights`, overwritten.
    pub fn weight_gradient(
        &self,
        pool: &ThreadPool,
        source: FusedLoad<'_, E>,
        grad_out: FusedLoad<'_, E>,
        grad_weights: &mut [f32],
        workspace: &mut Buffer,
    ) {
        check_len("conv3x3 weight gradient", grad_weights, self.output.channels * self.input.channels * 9);
        let x = source.checked("conv3x3 input", self.input);
        let dy = grad_out.checked("conv3x3 output gradient", self.output);
        run(pool, &self.gradient, self.input, self.output.channels, x, dy, grad_weights, workspace);
    }
}

/// Computes the gradient `(K,C,3,3)` of the weights of a convolution of `input` to `outer` channels.
fn run<E: Element>(
    pool: &ThreadPool,
    blocking: &GradientBlocking,
    input: MapShape,
    outer: usize,
    x: CheckedSource<E>,
    dy: CheckedSource<E>,
    grad: &mut [f32],
    workspace: &mut Buffer,
) {
    let (inner, threads) = (input.channels, pool.threads());
    let needed = blocking.workspace(inner, outer, threads);
    assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
    assert!(grad.len() == outer * inner * 9, "checked by the caller");
    let tiles_len = XI * (blocking.stride(inner) + blocking.stride(outer));
    let grad = SharedMut::new(grad);
    let space = SharedMut::new(workspace);
    let private = if blocking.shared_tiles {
        XI * GradientBlocking::product_stride(inner, 16)
    } else {
        XI * GradientBlocking::product_stride(inner, outer) + tiles_len
    };
    let phases = if blocking.shared_tiles {
        [Phase::Pack, Phase::MultiplyPanels]
    } else {
        [Phase::MultiplyTiles, Phase::Merge]
    };
    for phase in phases {
        pool.run(|thread| {
            // SAFETY: offsets inside the workspace checked above; private parts do not overlap.
            let (shared, private) = unsafe {
                if blocking.shared_tiles {
                    (space.as_ptr(), space.as_ptr().add(tiles_len + thread * private))
                } else {
                    let own = space.as_ptr().add(thread * private);
                    (own.add(private - tiles_len), own)
                }
            };
            let kernel = WeightGradient {
                blocking: *blocking,
                tiling: Tiling::new(input),
                inner,
                outer,
                x,
                dy,
                grad: grad.as_ptr(),
                tile_space: shared,
                products: private,
                all_products: space.as_ptr(),
                phase,
                thread,
                threads,
            };
            // SAFETY: the pool's level is available; lengths are checked above.
            unsafe { dispatch(pool.level(), kernel) }
        });
    }
}

#[derive(Clone, Copy)]
enum Phase {
    /// Transform this thread's part of the shared tiles.
    Pack,
    /// Multiply over all tiles for this thread's output channels, and finish them.
    MultiplyPanels,
    /// Transform and multiply this thread's tiles into a private sum.
    MultiplyTiles,
    /// Add the private sums and finish this thread's part.
    Merge,
}

struct WeightGradient<E> {
    blocking: GradientBlocking,
    tiling: Tiling,
    inner: usize,
    outer: usize,
    x: CheckedSource<E>,
    dy: CheckedSource<E>,
    grad: *mut f32,
    tile_space: *mut f32,
    products: *mut f32,
    all_products: *mut f32,
    phase: Phase,
    thread: usize,
    threads: usize,
}

impl<E: Element> Kernel for WeightGradient<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `run` above checked every length and gave each thread its own spaces.
        unsafe {
            match self.phase {
                Phase::Pack => {
                    let tiles = self.tiling.tiles();
                    let x = split(tiles * (self.inner / 16), self.threads, self.thread);
                    let dy = split(tiles * (self.outer / 16), self.threads, self.thread);
                    self.pack::<S>(0, x, dy);
                }
                Phase::MultiplyPanels => {
                    // More threads than panels: split the input channels too.
                    let panels = self.outer / 16;
                    let pieces = self.threads.div_ceil(panels).min(self.inner / 16);
                    for task in split(panels * pieces, self.threads, self.thread) {
                        let (panel, piece) = (task / pieces, task % pieces);
                        let blocks = split(self.inner / 16, pieces, piece);
                        self.multiply::<S>(self.blocking.tiles, blocks.clone(), panel..panel + 1, 16, false);
                        for channel in blocks.start * 16..blocks.end * 16 {
                            self.finish::<S::Octet>(panel, channel, self.products, 0, 1, 16, 0);
                        }
                    }
                }
                Phase::MultiplyTiles => {
                    let mine = split(self.tiling.tiles(), self.threads, self.thread);
                    let blocks = mine.len().div_ceil(self.blocking.tiles).max(1);
                    for block in 0..blocks {
                        let part = split(mine.len(), blocks, block);
                        let n = part.len();
                        let (inner, outer) = (self.inner / 16, self.outer / 16);
                        self.pack::<S>(mine.start + part.start, 0..n * inner, 0..n * outer);
                        self.multiply::<S>(n, 0..inner, 0..outer, self.outer, block > 0);
                    }
                }
                Phase::Merge => {
                    let private = XI * GradientBlocking::product_stride(self.inner, self.outer)
                        + XI * (self.blocking.stride(self.inner) + self.blocking.stride(self.outer));
                    for item in split(self.outer / 16 * self.inner, self.threads, self.thread) {
                        let (panel, channel) = (item / self.inner, item % self.inner);
                        let from = self.all_products;
                        self.finish::<S::Octet>(
                            panel,
                            channel,
                            from,
                            private,
                            self.threads,
                            self.outer,
                            panel * 16,
                        );
                    }
                }
            }
        }
    }
}

impl<E: Element> WeightGradient<E> {
    /// Transforms the given items of both operands, tiles counted from `first_tile`.
    ///
    /// # Safety
    /// `S` available; spaces checked by `run`.
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, first_tile: usize, x: Range<usize>, dy: Range<usize>) {
        let (inner, outer, tiling) = (self.inner, self.outer, &self.tiling);
        let packing = Packing::Blocked { tiles: self.blocking.tiles };
        let (x_stride, dy_stride) = (self.blocking.stride(inner), self.blocking.stride(outer));
        let items = Items { first_tile, from: x.start, to: x.end };
        // SAFETY: the caller's promises.
        unsafe {
            let to = self.tile_space;
            with_load!(self.x, load => pack_inputs::<S, _, _>(load, tiling, inner, items, packing, to, x_stride));
            let to = to.add(XI * x_stride);
            let items = Items { first_tile, from: dy.start, to: dy.end };
            with_load!(self.dy, load => pack_gradients::<S, _, _>(load, tiling, outer, items, packing, to, dy_stride));
        }
    }

    /// `products[xi][c][columns] (+)= sum over `count` packed tiles`, for blocks of both channels.
    ///
    /// # Safety
    /// As `pack`.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &self,
        count: usize,
        blocks: Range<usize>,
        panels: Range<usize>,
        columns: usize,
        add: bool,
    ) {
        let (x_stride, dy_stride) = (self.blocking.stride(self.inner), self.blocking.stride(self.outer));
        let block_len = self.blocking.tiles * 16;
        let product_stride = GradientBlocking::product_stride(self.inner, columns);
        for xi in 0..XI {
            for block in blocks.clone() {
                for (i, panel) in panels.clone().enumerate() {
                    // SAFETY: the caller's promises.
                    unsafe {
                        let left = self.tile_space.add(xi * x_stride + block * block_len);
                        let right = self.tile_space.add(XI * x_stride + xi * dy_stride + panel * block_len);
                        let out = self.products.add(xi * product_stride + block * 16 * columns + i * 16);
                        multiply_outer::<S>(left, right, count, out, columns, add);
                    }
                }
            }
        }
    }

    /// Adds `copies` products of 16 output channels and one input channel, and writes their 3x3 gradients.
    ///
    /// # Safety
    /// As `pack`.
    #[inline(always)]
    unsafe fn finish<O: Octet>(
        &self,
        panel: usize,
        channel: usize,
        products: *const f32,
        copy_stride: usize,
        copies: usize,
        columns: usize,
        column: usize,
    ) {
        let stride = GradientBlocking::product_stride(self.inner, columns);
        let mut half = 0;
        while half < 16 {
            // SAFETY: the caller's promises.
            unsafe {
                let mut m = [[O::splat(0.0); 6]; 6];
                for copy in 0..copies {
                    let from = products.add(copy * copy_stride + channel * columns + column + half);
                    for i in 0..6 {
                        for j in 0..6 {
                            m[i][j] = O::add(m[i][j], O::load(from.add((i * 6 + j) * stride)));
                        }
                    }
                }
                let w = output_tile3::<O>(&m);
                let taps = [w[0][0], w[0][1], w[0][2], w[1][0], w[1][1], w[1][2], w[2][0], w[2][1], w[2][2]];
                let to = self.grad.add(((panel * 16 + half) * self.inner + channel) * 9);
                store_taps::<O>(to, self.inner * 9, taps);
            }
            half += 8;
        }
    }
}
