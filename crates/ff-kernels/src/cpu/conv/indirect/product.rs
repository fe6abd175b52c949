//! What the forward convolution and the input gradient have in common: pixels packed a few dozen at a time, and
//! products.

use std::ops::Range;

use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::conv::micro::{self, GROUP, Panels, Products, Rows};
use crate::cpu::fuse::store::{CheckedEpilogue, Store, with_store};
use crate::cpu::simd::{Element, Kernel, Simd, dispatch};

/// Taps of the largest kernel, and one for a second source.
const MAX_TAPS: usize = 10;
/// Pixels packed at once at most: four blocks of the widest micro-kernel, and what a map of 7x7 has beyond them.
pub(super) const PIXELS: usize = 54;
/// Pixels packed at once where there are more.
const FULL: usize = 48;
/// Panels multiplied before their products are stored.
const PANELS: usize = 4;
/// Bytes of two panels' filters that are multiplied with all packed pixels before the next: two thirds of 48 KiB.
const CHUNK: usize = 32 << 10;

/// One term of the sum: a neighbour pixel times one slice of the weights.
#[derive(Clone, Copy)]
pub(crate) struct Tap<E> {
    /// Index into the packed taps.
    pub(crate) weight: usize,
    /// Row offset in the source.
    pub(crate) row: isize,
    /// Column offset in the source.
    pub(crate) column: isize,
    /// The source's data.
    pub(crate) source: *const E,
}

/// The output pixels `scale * (i, j) + offset`, which all read the same taps around `step * (i, j)`.
pub(crate) struct Grid<E> {
    rows: usize,
    columns: usize,
    step: usize,
    scale: usize,
    offset: (usize, usize),
    taps: [Tap<E>; MAX_TAPS],
    n_taps: usize,
}

// SAFETY: the taps' sources are only read from and outlive the kernel call.
unsafe impl<E: Element> Sync for Grid<E> {}

impl<E: Element> Grid<E> {
    pub(crate) fn new(rows: usize, columns: usize, step: usize) -> Self {
        let tap = Tap { weight: 0, row: 0, column: 0, source: std::ptr::null() };
        Self { rows, columns, step, scale: 1, offset: (0, 0), taps: [tap; MAX_TAPS], n_taps: 0 }
    }

    pub(crate) fn place(&mut self, scale: usize, row: usize, column: usize) {
        self.scale = scale;
        self.offset = (row, column);
    }

    pub(crate) fn push(&mut self, tap: Tap<E>) {
        self.taps[self.n_taps] = tap;
        self.n_taps += 1;
    }

    /// Runs of taps whose weights lie side by side, of at most `longest` taps.
    fn runs(&self, longest: usize) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = next;
            while next < self.n_taps
                && next - first < longest
                && self.taps[next].weight == self.taps[first].weight + next - first
            {
                next += 1;
            }
            (first < next).then_some(first..next)
        })
    }
}

/// Computes the pixels of `grid` in the map `output` from sources of shape `source`.
///
/// `space` holds [`PIXELS`] pixels of all taps for each thread.
pub(crate) fn run<E: Element>(
    pool: &ThreadPool,
    grid: &Grid<E>,
    source: MapShape,
    output: MapShape,
    packed: &[E],
    packed_taps: usize,
    space: &mut [E],
    epilogue: CheckedEpilogue<E>,
) {
    let (threads, pixels) = (pool.threads(), source.batch * grid.rows * grid.columns);
    let blocks = output.channels / 16;
    let private = PIXELS * grid.n_taps * source.channels;
    assert!(packed.len() == output.channels * source.channels * packed_taps, "checked by the caller");
    assert!(space.len() >= threads * private, "checked by the caller");
    // Few pixels: split the output channels, so that each weight is read by one thread only.
    let by_channels = pixels < 2 * FULL * threads && blocks >= threads;
    let space = SharedMut::new(space);
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
            // SAFETY: each thread's own part of the space checked above.
            space: unsafe { space.as_ptr().add(thread * private) },
            epilogue,
            pixels,
            blocks,
            cold: by_channels,
            thread,
        };
        // SAFETY: the pool's level is available; lengths are checked; threads write disjoint pixels or channels.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

struct Indirect<'a, E> {
    grid: &'a Grid<E>,
    source: MapShape,
    output: MapShape,
    packed: *const E,
    packed_taps: usize,
    space: *mut E,
    epilogue: CheckedEpilogue<E>,
    pixels: Range<usize>,
    blocks: Range<usize>,
    /// Whether the weights are read for a few pixels.
    cold: bool,
    thread: usize,
}

impl<E: Element> Kernel for Indirect<'_, E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `run` above checked the lengths.
        unsafe { with_store!(self.epilogue, store => self.go::<S, _>(store)) }
    }
}

impl<E: Element> Indirect<'_, E> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, T: Store>(&self, store: T) {
        let mut offsets = [0usize; PIXELS];
        let mut products = [0.0f32; PANELS * PIXELS * 16];
        let mut first = self.pixels.start;
        while first < self.pixels.end {
            let left = self.pixels.end - first;
            let count = if left <= PIXELS { left } else { FULL };
            for (i, offset) in offsets[..count].iter_mut().enumerate() {
                // SAFETY: the space covers the pixels' taps.
                *offset = unsafe { self.pack(first + i, i) };
            }
            let mut block = self.blocks.start;
            while block < self.blocks.end {
                let panels = PANELS.min(self.blocks.end - block);
                // SAFETY: the packed weights cover every block and tap, the products a panel's pixels.
                unsafe {
                    self.multiply::<S>(count, block, panels, products.as_mut_ptr());
                    for panel in 0..panels {
                        let mut half = 0;
                        while half < 16 {
                            let channel = (block + panel) * 16 + half;
                            let from = products.as_ptr().add(panel * PIXELS * 16 + half);
                            let mut run = store.begin::<S>(channel);
                            for i in 0..count {
                                store.apply::<S>(&mut run, S::load(from.add(i * 16)), offsets[i] + channel);
                            }
                            store.end::<S>(run, self.thread, channel);
                            half += S::LANES;
                        }
                    }
                }
                block += panels;
            }
            first += count;
        }
    }

    /// Packs what one pixel reads as row `at`, zeros outside the map, and tells the pixel's offset in the output.
    ///
    /// # Safety
    /// The space must cover the row.
    #[inline(always)]
    unsafe fn pack(&self, pixel: usize, at: usize) -> usize {
        let grid = self.grid;
        let (row, j) = (pixel / grid.columns, pixel % grid.columns);
        let (image, i) = (row / grid.rows, row % grid.rows);
        let MapShape { height, width, channels, .. } = self.source;
        let summed = grid.n_taps * channels;
        for (n, tap) in grid.taps[..grid.n_taps].iter().enumerate() {
            let y = (i * grid.step) as isize + tap.row;
            let x = (j * grid.step) as isize + tap.column;
            let inside = y >= 0 && x >= 0 && y < height as isize && x < width as isize;
            // SAFETY: the caller's promise; pixels outside the map are not read.
            unsafe {
                let to = self.space.add(at / GROUP * GROUP * summed + at % GROUP * 16 + n * channels * GROUP);
                if inside {
                    let pixel = (image * height + y as usize) * width + x as usize;
                    let from = tap.source.add(pixel * channels);
                    for block in 0..channels / 16 {
                        std::ptr::copy_nonoverlapping(from.add(block * 16), to.add(block * GROUP * 16), 16);
                    }
                } else {
                    for block in 0..channels / 16 {
                        to.add(block * GROUP * 16).write_bytes(0, 16);
                    }
                }
            }
        }
        let (y, x) = (i * grid.scale + grid.offset.0, j * grid.scale + grid.offset.1);
        ((image * self.output.height + y) * self.output.width + x) * self.output.channels
    }

    /// `products[panel][pixel][16]` of the packed pixels and `panels` blocks of 16 output channels.
    ///
    /// # Safety
    /// As `go`.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, count: usize, block: usize, panels: usize, products: *mut f32) {
        let (inner, summed) = (self.source.channels, self.grid.n_taps * self.source.channels);
        let taps_at_once = (CHUNK / (2 * 16 * size_of::<E>() * inner)).max(1);
        // SAFETY: the caller's promises.
        unsafe {
            if self.grid.n_taps == 0 {
                products.write_bytes(0, PANELS * PIXELS * 16);
            }
            let weights = self.packed.add(block * self.packed_taps * inner * 16);
            for taps in self.grid.runs(taps_at_once) {
                let rows = Rows {
                    data: self.space.add(taps.start * inner * GROUP).cast_const(),
                    group_stride: GROUP * summed,
                    count,
                };
                let panels = Panels {
                    data: weights.add(self.grid.taps[taps.start].weight * inner * 16),
                    stride: self.packed_taps * inner * 16,
                    count: panels,
                    cold: self.cold,
                };
                let out = Products { data: products, stride: PIXELS * 16, add: taps.start > 0 };
                micro::multiply::<S, E>(rows, panels, taps.len() * inner, out);
            }
        }
    }
}
