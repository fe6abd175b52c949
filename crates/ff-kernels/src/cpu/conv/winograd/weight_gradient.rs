//! The weight gradient: F(3x3, 4x4), a sum over tiles.
//!
//! `dW = output3( sum over tiles of input(X tile) * filter4(dY tile) )`, per pair of channels.

use std::ops::Range;

use super::blocking::{COLUMNS, GradientBlocking, ROWS};
use super::geometry::Conv3x3;
use super::tiles::{Packing, pack_gradients, pack_inputs};
use super::tiling::{Items, POINTS, Tiles, Tiling, XI};
use super::transforms::output_tile3;
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::MapShape;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::conv::outer::{Right, multiply_outer};
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
    let needed = blocking.workspace::<E>(inner, outer, threads);
    assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
    assert!(grad.len() == outer * inner * 9, "checked by the caller");
    let grad = SharedMut::new(grad);
    let space = SharedMut::new(workspace);
    let (tiles_len, products_len) =
        (blocking.tiles_len::<E>(inner, outer), blocking.products_len(inner, outer));
    let phases = if blocking.shared_tiles {
        [Phase::Pack, Phase::MultiplyPanels]
    } else {
        [Phase::MultiplyTiles, Phase::Merge]
    };
    for phase in phases {
        pool.run(|thread| {
            // SAFETY: offsets inside the workspace checked above; private parts do not overlap.
            let (products, tiles) = unsafe {
                let tiles = space.as_ptr().add(threads * products_len);
                let own = if blocking.shared_tiles { 0 } else { thread * tiles_len };
                (space.as_ptr().add(thread * products_len), tiles.add(own))
            };
            let kernel = WeightGradient {
                blocking: *blocking,
                tiling: Tiling::new(input),
                inner,
                outer,
                x,
                dy,
                grad: grad.as_ptr(),
                tile_space: tiles.cast(),
                products,
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

/// Products `[xi][channel][columns]`.
#[derive(Clone, Copy)]
struct Sums {
    data: *mut f32,
    columns: usize,
    /// Floats between points.
    stride: usize,
}

struct WeightGradient<E> {
    blocking: GradientBlocking,
    tiling: Tiling,
    inner: usize,
    outer: usize,
    x: CheckedSource<E>,
    dy: CheckedSource<E>,
    grad: *mut f32,
    tile_space: *mut E,
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
                    self.pack::<S>(self.tiling.tiles(), self.threads, self.thread);
                }
                Phase::MultiplyPanels => {
                    // Pieces of a pair of panels follow each other, which leaves its tiles in the cache.
                    let (panels, pieces) = (self.outer.div_ceil(COLUMNS), self.inner.div_ceil(ROWS));
                    for task in split(panels * pieces, self.threads, self.thread) {
                        let (pair, piece) = (task / pieces, task % pieces);
                        let panels = pair * COLUMNS / 16..(self.outer / 16).min((pair + 1) * COLUMNS / 16);
                        let blocks = piece * ROWS / 16..(self.inner / 16).min((piece + 1) * ROWS / 16);
                        let stride = GradientBlocking::product_stride(ROWS, COLUMNS);
                        let to = Sums { data: self.products, columns: COLUMNS, stride };
                        let tiles = self.tiling.tiles();
                        self.multiply::<S>(&tiles, blocks.clone(), panels.clone(), to, false);
                        for (i, panel) in panels.enumerate() {
                            for (row, channel) in (blocks.start * 16..blocks.end * 16).enumerate() {
                                let from = Sums { data: to.data.add(row * COLUMNS + i * 16), ..to };
                                self.finish::<S::Octet>(panel, channel, from, 0, 1);
                            }
                        }
                    }
                }
                Phase::MultiplyTiles => {
                    let mine = self.tiling.tiles().part(self.threads, self.thread);
                    let blocks = mine.len().div_ceil(self.blocking.tiles).max(1);
                    for block in 0..blocks {
                        let part = mine.part(blocks, block);
                        let (inner, outer) = (self.inner / 16, self.outer / 16);
                        self.pack::<S>(part.clone(), 1, 0);
                        let to = self.private_sums(self.products);
                        self.multiply::<S>(&part, 0..inner, 0..outer, to, block > 0);
                    }
                }
                Phase::Merge => {
                    let copy_len = self.blocking.products_len(self.inner, self.outer);
                    for item in split(self.outer / 16 * self.inner, self.threads, self.thread) {
                        let (panel, channel) = (item / self.inner, item % self.inner);
                        let from = self.all_products.add(channel * self.outer + panel * 16);
                        self.finish::<S::Octet>(
                            panel,
                            channel,
                            self.private_sums(from),
                            copy_len,
                            self.threads,
                        );
                    }
                }
            }
        }
    }
}

impl<E: Element> WeightGradient<E> {
    fn packing(&self) -> Packing {
        Packing::Blocked { steps: self.blocking.steps::<E>() }
    }

    /// Where a thread sums all channels.
    fn private_sums(&self, data: *mut f32) -> Sums {
        let stride = GradientBlocking::product_stride(self.inner, self.outer);
        Sums { data, columns: self.outer, stride }
    }

    /// Transforms the share of one of several threads of both operands' tiles.
    ///
    /// # Safety
    /// `S` available; spaces checked by `run`.
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, tiles: Tiles, threads: usize, thread: usize) {
        let (inner, outer, tiling) = (self.inner, self.outer, &self.tiling);
        let packing = self.packing();
        let (x_stride, dy_stride) = (self.blocking.stride::<E>(inner), self.blocking.stride::<E>(outer));
        let items = |channels| Items::all(tiles.clone(), channels, E::STEP).share(threads, thread);
        // SAFETY: the caller's promises.
        unsafe {
            let (items, to) = (items(inner), self.tile_space);
            with_load!(self.x, load => pack_inputs::<S, _, _>(load, tiling, inner, items, packing, to, x_stride));
        }
        // SAFETY: as above.
        unsafe {
            let (items, to) = (items(outer), self.tile_space.add(XI * x_stride));
            with_load!(self.dy, load => pack_gradients::<S, _, _>(load, tiling, outer, items, packing, to, dy_stride));
        }
    }

    /// `to[xi][c][columns] (+)= sum over the packed tiles that have the point`, for blocks of both channels.
    ///
    /// # Safety
    /// As `pack`.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &self,
        tiles: &Tiles,
        blocks: Range<usize>,
        panels: Range<usize>,
        to: Sums,
        add: bool,
    ) {
        let (x_stride, dy_stride) =
            (self.blocking.stride::<E>(self.inner), self.blocking.stride::<E>(self.outer));
        let block_len = self.blocking.steps::<E>() * E::STEP * 16;
        // Two panels of f32 and the rows beside them are more than the first cache holds: 4.7 ms in place of 3.7.
        let at_once = if E::BF16 { 2 } else { 1 };
        for xi in 0..XI {
            let steps = self.packing().steps_at::<E>(&self.tiling, tiles, xi / POINTS, xi % POINTS);
            for (row, block) in blocks.clone().enumerate() {
                let mut panel = panels.start;
                while panel < panels.end {
                    // SAFETY: the caller's promises.
                    unsafe {
                        let left = self.tile_space.add(xi * x_stride + block * block_len);
                        let right = self.tile_space.add(XI * x_stride + xi * dy_stride + panel * block_len);
                        let right =
                            Right { data: right, stride: block_len, panels: at_once.min(panels.end - panel) };
                        let column = (panel - panels.start) * 16;
                        let out = to.data.add(xi * to.stride + row * 16 * to.columns + column);
                        multiply_outer::<S, E>(left, right, steps, out, to.columns, add);
                    }
                    panel += at_once;
                }
            }
        }
    }

    /// Adds `copies` products of 16 output channels and one input channel, `copy_stride` apart, and writes their 3x3
    /// gradients.
    ///
    /// # Safety
    /// As `pack`.
    #[inline(always)]
    unsafe fn finish<O: Octet>(
        &self,
        panel: usize,
        channel: usize,
        from: Sums,
        copy_stride: usize,
        copies: usize,
    ) {
        let mut half = 0;
        while half < 16 {
            // SAFETY: the caller's promises.
            unsafe {
                let mut m = [[O::splat(0.0); 6]; 6];
                for copy in 0..copies {
                    let from_copy = from.data.add(copy * copy_stride + half);
                    for i in 0..6 {
                        for j in 0..6 {
                            m[i][j] = O::add(m[i][j], O::load(from_copy.add((i * 6 + j) * from.stride)));
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
