//! Maps as 4x4 output tiles, and the transforms between maps and packed tiles.
//!
//! Packed inputs of a multiplication: `[xi][group of 6 tiles][C/16][6][16]` (forward and input gradient) or
//! `[xi][C/16][tile/STEP][16][STEP]` (weight gradient: its sum is over tiles). The stride between points is padded by a
//! cache line, because all 36 of them are written at once and a power of two would put them into one cache set.
//! Transforms compute in f32, and what they make is rounded once where the packed element is bfloat16. Tiles over the
//! map's edge read zeros and write nothing there.

use std::ops::Range;

use super::transforms::{XI, filter_tile4, input_tile, output_tile4};
use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::split;
use crate::cpu::conv::micro::GROUP;
use crate::cpu::fuse::load::Load;
use crate::cpu::fuse::store::Store;
use crate::cpu::simd::{Lanes, Simd};

/// Rows and columns of outputs a tile makes.
pub(crate) const TILE: usize = 4;
/// Elements between the points beyond their contents: one cache line.
pub(crate) const fn pad<E>() -> usize {
    64 / size_of::<E>()
}
/// Tiles whose moments are summed in `f32` before they are carried to `f64`.
const RUN: usize = 32;

/// A map cut into tiles, image by image, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Tiling {
    height: usize,
    width: usize,
    rows: usize,
    columns: usize,
    batch: usize,
}

impl Tiling {
    pub(crate) fn new(shape: MapShape) -> Self {
        let MapShape { batch, height, width, .. } = shape;
        Self { height, width, rows: height.div_ceil(TILE), columns: width.div_ceil(TILE), batch }
    }

    pub(crate) fn tiles(&self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// Image, first row and first column of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (row, column) = (tile / self.columns, tile % self.columns);
        (row / self.rows, row % self.rows * TILE, column * TILE)
    }
}

/// Where the vector of a tile and channel goes, before the point's stride is added.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    /// `[group of 6 tiles][C/16][6][16]`
    Grouped,
    /// `[C/16][tile/STEP][16][STEP]`, of this many steps.
    Blocked { steps: usize },
}

impl Packing {
    /// Tiles that share the lines they are packed into.
    const fn unit<P: Lanes>(self) -> usize {
        match self {
            Self::Grouped => 1,
            Self::Blocked { .. } => P::STEP,
        }
    }

    #[inline(always)]
    fn offset<P: Lanes>(self, tile: usize, channel: usize, channels: usize) -> usize {
        let (block, lane) = (channel / 16, channel % 16);
        match self {
            Self::Grouped => {
                (tile / GROUP) * GROUP * channels + block * GROUP * 16 + tile % GROUP * 16 + lane
            }
            Self::Blocked { steps } => ((block * steps + tile / P::STEP) * 16 + lane) * P::STEP,
        }
    }
}

/// The work of one thread: pairs of (unit of tiles, block of 16 channels), numbered unit by unit from `tiles.start` on.
#[derive(Clone)]
pub(crate) struct Items {
    pub(crate) tiles: Range<usize>,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// The channels of one tile that a thread transforms.
struct Part {
    /// The tile, counted from the first.
    local: usize,
    /// The first channel.
    from: usize,
    /// The one after the last.
    to: usize,
}

impl Items {
    /// Every block of these tiles.
    pub(crate) fn all<P: Lanes>(tiles: Range<usize>, channels: usize, packing: Packing) -> Self {
        let units = tiles.len().div_ceil(packing.unit::<P>());
        Self { tiles, from: 0, to: units * (channels / 16) }
    }

    /// The share of one of several threads.
    pub(crate) fn share(self, threads: usize, thread: usize) -> Self {
        let part = split(self.to, threads, thread);
        Self { from: part.start, to: part.end, ..self }
    }

    /// The items tile by tile, of maps of this many channels.
    #[inline(always)]
    fn parts(&self, channels: usize, unit: usize) -> impl Iterator<Item = Part> {
        let (blocks, from, to, tiles) = (channels / 16, self.from, self.to, self.tiles.len());
        let units = if from < to { from / blocks..to.div_ceil(blocks) } else { 0..0 };
        units.flat_map(move |at| {
            let (first, last) = (from.max(at * blocks), to.min((at + 1) * blocks));
            (at * unit..tiles.min((at + 1) * unit)).map(move |local| Part {
                local,
                from: (first - at * blocks) * 16,
                to: (last - at * blocks) * 16,
            })
        })
    }
}

/// Stores the points of one tile and vector of channels, `stride` elements apart.
///
/// # Safety
/// `S` available; `out` must cover the points.
#[inline(always)]
unsafe fn store_points<S: Simd, P: Lanes>(
    points: &[[S::V; 6]; 6],
    packing: Packing,
    tile: usize,
    out: *mut P,
    stride: usize,
) {
    for i in 0..6 {
        for j in 0..6 {
            // SAFETY: the caller's promise.
            unsafe {
                let to = out.add((i * 6 + j) * stride);
                match packing {
                    Packing::Grouped => P::store::<S>(to, points[i][j]),
                    Packing::Blocked { .. } => P::store_step::<S>(to, points[i][j], tile % P::STEP),
                }
            }
        }
    }
}

/// Transforms the 6x6 inputs around each tile (its 4x4 outputs and one pixel on every side).
///
/// # Safety
/// `S` available; `items` inside the map; `packed` must hold the packing of all of them, `XI * stride` elements.
#[inline(always)]
pub(crate) unsafe fn pack_inputs<S: Simd, L: Load, P: Lanes>(
    source: L,
    tiling: &Tiling,
    channels: usize,
    items: Items,
    packing: Packing,
    packed: *mut P,
    stride: usize,
) {
    for Part { local, from, to } in items.parts(channels, packing.unit::<P>()) {
        let (image, y, x) = tiling.place(items.tiles.start + local);
        let inner = y > 0 && x > 0 && y + 5 <= tiling.height && x + 5 <= tiling.width;
        // Offset of the tile's pixel (-1, -1); it may lie before the map, where nothing is read.
        let corner = ((image * tiling.height + y) * tiling.width + x).wrapping_sub(tiling.width + 1);
        let mut channel = from;
        while channel < to {
            // SAFETY: the source covers the map; only pixels inside it are loaded.
            unsafe {
                let k = source.constants::<S>(channel);
                let mut d = [[S::splat(0.0); 6]; 6];
                if inner {
                    for i in 0..6 {
                        let row = (corner + i * tiling.width) * channels + channel;
                        for j in 0..6 {
                            d[i][j] = source.load::<S>(row + j * channels, &k);
                        }
                    }
                } else {
                    for i in 0..6 {
                        for j in 0..6 {
                            if y + i >= 1 && y + i <= tiling.height && x + j >= 1 && x + j <= tiling.width {
                                let pixel = corner.wrapping_add(i * tiling.width + j);
                                d[i][j] = source.load::<S>(pixel * channels + channel, &k);
                            }
                        }
                    }
                }
                let out = packed.add(packing.offset::<P>(local, channel, channels));
                store_points::<S, P>(&input_tile::<S>(&d), packing, local, out, stride);
            }
            channel += S::LANES;
        }
    }
}

/// Transforms each tile's 4x4 gradients as the "filter" of the weight gradient.
///
/// # Safety
/// As [`pack_inputs`].
#[inline(always)]
pub(crate) unsafe fn pack_gradients<S: Simd, L: Load, P: Lanes>(
    source: L,
    tiling: &Tiling,
    channels: usize,
    items: Items,
    packing: Packing,
    packed: *mut P,
    stride: usize,
) {
    for Part { local, from, to } in items.parts(channels, packing.unit::<P>()) {
        let (image, y, x) = tiling.place(items.tiles.start + local);
        let rows = TILE.min(tiling.height - y);
        let columns = TILE.min(tiling.width - x);
        let corner = (image * tiling.height + y) * tiling.width + x;
        let mut channel = from;
        while channel < to {
            // SAFETY: the source covers the map; only pixels inside it are loaded.
            unsafe {
                let k = source.constants::<S>(channel);
                let mut d = [[S::splat(0.0); 4]; 4];
                if rows == TILE && columns == TILE {
                    for i in 0..4 {
                        let row = (corner + i * tiling.width) * channels + channel;
                        for j in 0..4 {
                            d[i][j] = source.load::<S>(row + j * channels, &k);
                        }
                    }
                } else {
                    for i in 0..4 {
                        for j in 0..4 {
                            if i < rows && j < columns {
                                let pixel = corner + i * tiling.width + j;
                                d[i][j] = source.load::<S>(pixel * channels + channel, &k);
                            }
                        }
                    }
                }
                let out = packed.add(packing.offset::<P>(local, channel, channels));
                store_points::<S, P>(&filter_tile4::<S>(&d), packing, local, out, stride);
            }
            channel += S::LANES;
        }
    }
}

/// Transforms products `[xi][tile][16]` of the channels `block * 16 ..` back to pixels, through the epilogue.
///
/// # Safety
/// `S` available; `tiles` inside the map; `products` must hold `XI * stride` floats.
#[inline(always)]
pub(crate) unsafe fn unpack_outputs<S: Simd, E: Store>(
    epilogue: E,
    tiling: &Tiling,
    channels: usize,
    tiles: Range<usize>,
    block: usize,
    products: *const f32,
    stride: usize,
    thread: usize,
) {
    let mut half = 0;
    while half < 16 {
        let channel = block * 16 + half;
        let mut first = tiles.start;
        while first < tiles.end {
            let last = tiles.end.min(first + RUN);
            // SAFETY: the caller's promises; the epilogue covers the map.
            unsafe {
                let mut run = epilogue.begin::<S>(channel);
                for tile in first..last {
                    let from = products.add((tile - tiles.start) * 16 + half);
                    let mut m = [[S::splat(0.0); 6]; 6];
                    for i in 0..6 {
                        for j in 0..6 {
                            m[i][j] = S::load(from.add((i * 6 + j) * stride));
                        }
                    }
                    let y = output_tile4::<S>(&m);
                    let (image, row, column) = tiling.place(tile);
                    let rows = TILE.min(tiling.height - row);
                    let columns = TILE.min(tiling.width - column);
                    let corner = (image * tiling.height + row) * tiling.width + column;
                    if rows == TILE && columns == TILE {
                        for i in 0..4 {
                            for j in 0..4 {
                                let offset = (corner + i * tiling.width + j) * channels + channel;
                                epilogue.apply::<S>(&mut run, y[i][j], offset);
                            }
                        }
                    } else {
                        for i in 0..rows {
                            for j in 0..columns {
                                let offset = (corner + i * tiling.width + j) * channels + channel;
                                epilogue.apply::<S>(&mut run, y[i][j], offset);
                            }
                        }
                    }
                }
                epilogue.end::<S>(run, thread, channel);
            }
            first = last;
        }
        half += S::LANES;
    }
    const { assert!(XI == 36) };
}
