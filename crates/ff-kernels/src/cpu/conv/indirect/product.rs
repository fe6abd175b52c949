//! What the forward convolution and the input gradient have in common: a matrix product through pointers to pixels.
//!
//! Six pixels at a time are read where they lie, and one outside the map points at a row of zeros.

use std::ops::Range;

use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::{ThreadPool, split};
use crate::cpu::fuse::store::{CheckedEpilogue, Store, with_store};
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// Taps of the largest kernel, and one for a second source.
const MAX_TAPS: usize = 10;
/// Pixels whose pointers are made at once; a multiple of 12.
const PIXELS: usize = 48;

/// One term of the sum: a neighbour pixel times one slice of the weights.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    /// Index into the packed taps.
    pub(crate) weight: usize,
    /// Row offset in the source.
    pub(crate) row: isize,
    /// Column offset in the source.
    pub(crate) column: isize,
    /// The source's data.
    pub(crate) source: *const f32,
}

/// The output pixels `scale * (i, j) + offset`, which all read the same taps around `step * (i, j)`.
pub(crate) struct Grid {
    rows: usize,
    columns: usize,
    step: usize,
    scale: usize,
    offset: (usize, usize),
    taps: [Tap; MAX_TAPS],
    n_taps: usize,
}

// SAFETY: the taps' sources are only read from and outlive the kernel call.
unsafe impl Sync for Grid {}

impl Grid {
    pub(crate) fn new(rows: usize, columns: usize, step: usize) -> Self {
        let tap = Tap { weight: 0, row: 0, column: 0, source: std::ptr::null() };
        Self { rows, columns, step, scale: 1, offset: (0, 0), taps: [tap; MAX_TAPS], n_taps: 0 }
    }

    pub(crate) fn place(&mut self, scale: usize, row: usize, column: usize) {
        self.scale = scale;
        self.offset = (row, column);
    }

    pub(crate) fn push(&mut self, tap: Tap) {
        self.taps[self.n_taps] = tap;
        self.n_taps += 1;
    }
}

/// Computes the pixels of `grid` in the map `output` from sources of shape `source`.
pub(crate) fn run(
    pool: &ThreadPool,
    grid: &Grid,
    source: MapShape,
    output: MapShape,
    packed: &[f32],
    packed_taps: usize,
    zeros: &[f32],
    epilogue: CheckedEpilogue,
) {
    let (threads, pixels) = (pool.threads(), source.batch * grid.rows * grid.columns);
    let blocks = output.channels / 16;
    assert!(packed.len() == output.channels * source.channels * packed_taps, "checked by the caller");
    assert!(zeros.len() >= source.channels, "checked by the caller");
    // Few pixels: split the output channels, so that each weight is read by one thread only.
    let by_channels = pixels < 2 * PIXELS * threads && blocks >= threads;
    pool.run(|thread| {
        let (pixels, blocks) = if by_channels {
            (0..pixels, split(blocks, threads, thread))
        } else {
            (split(pixels, threads, thread), 0..blocks)
        };
        let kernel = Indirect {
            grid,
            source,
            output,
            packed: packed.as_ptr(),
            packed_taps,
            zeros: zeros.as_ptr(),
            epilogue,
            pixels,
            blocks,
            thread,
        };
        // SAFETY: the pool's level is available; lengths are checked; threads write disjoint pixels or channels.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

struct Indirect<'a> {
    grid: &'a Grid,
    source: MapShape,
    output: MapShape,
    packed: *const f32,
    packed_taps: usize,
    zeros: *const f32,
    epilogue: CheckedEpilogue,
    pixels: Range<usize>,
    blocks: Range<usize>,
    thread: usize,
}

impl Kernel for Indirect<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `run` above checked the lengths.
        unsafe { with_store!(self.epilogue, store => self.go::<S, _>(store)) }
    }
}

impl Indirect<'_> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, E: Store>(&self, store: E) {
        let inner = self.source.channels;
        let mut pointers = [[self.zeros; PIXELS]; MAX_TAPS];
        let mut offsets = [0usize; PIXELS];
        let mut products = [0.0f32; PIXELS * 16];
        let mut first = self.pixels.start;
        while first < self.pixels.end {
            let count = PIXELS.min(self.pixels.end - first);
            for i in 0..PIXELS {
                if i < count {
                    offsets[i] = self.locate(first + i, i, &mut pointers);
                } else {
                    for row in &mut pointers {
                        row[i] = self.zeros;
                    }
                }
            }
            for block in self.blocks.clone() {
                // SAFETY: pointers cover `inner` floats each; the packed weights cover every block and tap.
                unsafe {
                    let weights = self.packed.add(block * self.packed_taps * inner * 16);
                    let mut at = 0;
                    while at < count {
                        let to = products.as_mut_ptr().add(at * 16);
                        if S::GROUPS == 2 {
                            self.rows::<S, 12>(&pointers, at, weights, to);
                            at += 12;
                        } else {
                            self.rows::<S, 6>(&pointers, at, weights, to);
                            at += 6;
                        }
                    }
                    let mut half = 0;
                    while half < 16 {
                        let channel = block * 16 + half;
                        let mut run = store.begin::<S>(channel);
                        for i in 0..count {
                            let v = S::load(products.as_ptr().add(i * 16 + half));
                            store.apply::<S>(&mut run, v, offsets[i] + channel);
                        }
                        store.end::<S>(run, self.thread, channel);
                        half += S::LANES;
                    }
                }
            }
            first += count;
        }
    }

    /// Fills the pointers of one pixel and tells its offset in the output.
    #[inline(always)]
    fn locate(&self, pixel: usize, at: usize, pointers: &mut [[*const f32; PIXELS]; MAX_TAPS]) -> usize {
        let grid = self.grid;
        let (row, j) = (pixel / grid.columns, pixel % grid.columns);
        let (image, i) = (row / grid.rows, row % grid.rows);
        let MapShape { height, width, channels, .. } = self.source;
        for (tap, pointers) in grid.taps[..grid.n_taps].iter().zip(pointers) {
            let y = (i * grid.step) as isize + tap.row;
            let x = (j * grid.step) as isize + tap.column;
            let inside = y >= 0 && x >= 0 && y < height as isize && x < width as isize;
            pointers[at] = if inside {
                let pixel = (image * height + y as usize) * width + x as usize;
                tap.source.wrapping_add(pixel * channels)
            } else {
                self.zeros
            };
        }
        let (y, x) = (i * grid.scale + grid.offset.0, j * grid.scale + grid.offset.1);
        ((image * self.output.height + y) * self.output.width + x) * self.output.channels
    }

    /// `R` pixels times one block of 16 output channels.
    ///
    /// # Safety
    /// As `go`.
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize>(
        &self,
        pointers: &[[*const f32; PIXELS]; MAX_TAPS],
        at: usize,
        weights: *const f32,
        to: *mut f32,
    ) {
        let inner = self.source.channels;
        // SAFETY: the caller's promises.
        unsafe {
            let mut sums = [S::w_zero(); R];
            for n in 0..self.grid.n_taps {
                let mut from = [self.zeros; R];
                from.copy_from_slice(&pointers[n][at..at + R]);
                let slice = weights.add(self.grid.taps[n].weight * inner * 16);
                for channel in 0..inner {
                    let b = S::w_load(slice.add(channel * 16));
                    for r in 0..R {
                        sums[r] = S::w_fma(S::splat(*from[r].add(channel)), b, sums[r]);
                    }
                }
            }
            for r in 0..R {
                S::w_store(to.add(r * 16), sums[r]);
            }
        }
    }
}
