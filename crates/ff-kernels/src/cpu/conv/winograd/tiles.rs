//! The transforms between maps and packed tiles.
//!
//! Packed inputs of a multiplication: `[xi][group of 6 tiles][C/16][6][16]` (forward and input gradient) or
//! `[xi][C/16][tile/STEP][16][STEP]` (weight gradient: its sum is over tiles). The stride between points is padded by a
//! cache line, because all 36 of them are written at once and a power of two would put them into one cache set.
//! A point holds only the tiles that have it. Transforms compute in f32, and what they make is rounded once where the
//! packed element is bfloat16. Tiles over the map's edge read zeros and write nothing there.

use std::ops::Range;

use super::tiling::{Items, POINTS, Part, Place, Span, TILE, Tiles, Tiling, XI};
use super::transforms::{
    filter_tile4, input_tile, narrow_filter_tile, narrow_input_tile, narrow_output_tile, output_tile4,
};
use crate::cpu::conv::micro::GROUP;
use crate::cpu::fuse::load::Load;
use crate::cpu::fuse::store::Store;
use crate::cpu::simd::{Lanes, Simd};

/// Elements between the points beyond their contents: one cache line.
pub(crate) const fn pad<E>() -> usize {
    64 / size_of::<E>()
}
/// Tiles whose moments are summed in `f32` before they are carried to `f64`.
const RUN: usize = 32;

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

    /// [`Tiling::skipped`], whole lines of them, and the ranks of the tiles that lack a column but share the line of
    /// one that has it: those store the zeros that they have there.
    #[inline(always)]
    fn skipped<P: Lanes>(self, tiling: &Tiling, tiles: &Tiles) -> ([usize; 2], Range<usize>) {
        let skipped = tiling.skipped(tiles);
        let lines = skipped.map(|skipped| skipped / self.unit::<P>() * self.unit::<P>());
        (lines, lines[1]..skipped[1])
    }

    /// Lines of the tiles that have a point.
    #[inline(always)]
    pub(crate) fn steps_at<P: Lanes>(
        self,
        tiling: &Tiling,
        tiles: &Tiles,
        row: usize,
        column: usize,
    ) -> usize {
        let zeros = match column {
            3 | 4 => tiling.skipped(tiles)[column - 3] % self.unit::<P>(),
            _ => 0,
        };
        (zeros + tiling.count_at(tiles, row, column)).div_ceil(self.unit::<P>())
    }

    /// How much earlier a tile lies among those that have a column of points, if so many are skipped.
    #[inline(always)]
    fn shift<P: Lanes>(self, rank: usize, skipped: [usize; 2], channels: usize) -> Shift {
        let here = self.offset::<P>(rank, 0, channels) as isize;
        // A tile that lacks the column is among the skipped ones, and goes nowhere.
        skipped.map(|skipped| self.offset::<P>(rank.saturating_sub(skipped), 0, channels) as isize - here)
    }
}

/// Offsets of what a tile has of the last two pairs of columns of points, B and -B, from where its rank would have it.
type Shift = [isize; 2];

/// The offset of a column of points from a tile's first.
#[inline(always)]
const fn shift_of(column: usize, shift: Shift) -> isize {
    match column {
        3 => shift[0],
        4 => shift[1],
        _ => 0,
    }
}

/// Stores the points that a tile has of one vector of channels, `stride` elements apart.
///
/// # Safety
/// `S` available; `out`, shifted, must cover the points.
#[inline(always)]
unsafe fn store_points<S: Simd, P: Lanes>(
    points: &[[S::V; POINTS]; POINTS],
    [rows, columns]: [Span; 2],
    packing: Packing,
    rank: usize,
    out: *mut P,
    stride: usize,
    shift: Shift,
) {
    for i in 0..POINTS {
        for j in 0..POINTS {
            if !rows.has(i) || !columns.has(j) {
                continue;
            }
            // SAFETY: the caller's promise.
            unsafe {
                let to = out.add((i * POINTS + j) * stride).offset(shift_of(j, shift));
                match packing {
                    Packing::Grouped => P::store::<S>(to, points[i][j]),
                    Packing::Blocked { .. } => P::store_step::<S>(to, points[i][j], rank % P::STEP),
                }
            }
        }
    }
}

/// Transforms the inputs around each tile: its outputs, 4x4 or fewer, and one pixel on every side.
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
    let (height, width, unit) = (tiling.height(), tiling.width(), packing.unit::<P>());
    let (skipped, zeros) = packing.skipped::<P>(tiling, &items.tiles);
    let mut places = tiling.places(&items.tiles, items.first(channels, unit));
    for Part { rank, from, to } in items.parts(channels, unit) {
        let Some(place) = places.next() else { break };
        let Place { image, y, x, rows, columns } = place;
        let shift = packing.shift::<P>(rank, skipped, channels);
        let stored = [rows, if zeros.contains(&rank) { Span::Four } else { columns }];
        // The inputs that lie inside the map.
        let (top, bottom) = (usize::from(y == 0), rows.inputs().min(height + 1 - y));
        let (left, right) = (usize::from(x == 0), columns.inputs().min(width + 1 - x));
        let inner = top == 0 && left == 0 && bottom == 6 && right == 6;
        // Offset of the tile's pixel (-1, -1); it may lie before the map, where nothing is read.
        let corner = ((image * height + y) * width + x).wrapping_sub(width + 1);
        let mut channel = from;
        while channel < to {
            // SAFETY: the source covers the map; only pixels inside it are loaded.
            unsafe {
                let k = source.constants::<S>(channel);
                let out = packed.add(packing.offset::<P>(rank, channel, channels));
                if inner {
                    let mut d = [[S::splat(0.0); 6]; 6];
                    for i in 0..6 {
                        let row = (corner + i * width) * channels + channel;
                        for j in 0..6 {
                            d[i][j] = source.load::<S>(row + j * channels, &k);
                        }
                    }
                    let points = input_tile::<S>(&d);
                    store_points::<S, P>(&points, [Span::Four; 2], packing, rank, out, stride, shift);
                } else {
                    let mut d = [[S::splat(0.0); 6]; 6];
                    for i in top..bottom {
                        for j in left..right {
                            let pixel = corner.wrapping_add(i * width + j);
                            d[i][j] = source.load::<S>(pixel * channels + channel, &k);
                        }
                    }
                    let points = narrow_input_tile::<S>(&d, rows, columns);
                    store_points::<S, P>(&points, stored, packing, rank, out, stride, shift);
                }
            }
            channel += S::LANES;
        }
    }
}

/// Transforms each tile's gradients, 4x4 or fewer, as the "filter" of the weight gradient.
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
    let (height, width, unit) = (tiling.height(), tiling.width(), packing.unit::<P>());
    let (skipped, zeros) = packing.skipped::<P>(tiling, &items.tiles);
    let mut places = tiling.places(&items.tiles, items.first(channels, unit));
    for Part { rank, from, to } in items.parts(channels, unit) {
        let Some(place) = places.next() else { break };
        let Place { image, y, x, rows, columns } = place;
        let shift = packing.shift::<P>(rank, skipped, channels);
        let stored = [rows, if zeros.contains(&rank) { Span::Four } else { columns }];
        let corner = (image * height + y) * width + x;
        let mut channel = from;
        while channel < to {
            // SAFETY: the source covers the map; only pixels inside it are loaded.
            unsafe {
                let k = source.constants::<S>(channel);
                let out = packed.add(packing.offset::<P>(rank, channel, channels));
                if rows == Span::Four && columns == Span::Four {
                    let mut d = [[S::splat(0.0); 4]; 4];
                    for i in 0..TILE {
                        let row = (corner + i * width) * channels + channel;
                        for j in 0..TILE {
                            d[i][j] = source.load::<S>(row + j * channels, &k);
                        }
                    }
                    let points = filter_tile4::<S>(&d);
                    store_points::<S, P>(&points, [Span::Four; 2], packing, rank, out, stride, shift);
                } else {
                    let mut d = [[S::splat(0.0); 4]; 4];
                    for i in 0..rows.outputs().min(height - y) {
                        let row = (corner + i * width) * channels + channel;
                        for j in 0..columns.outputs().min(width - x) {
                            d[i][j] = source.load::<S>(row + j * channels, &k);
                        }
                    }
                    let points = narrow_filter_tile::<S>(&d, rows, columns);
                    store_points::<S, P>(&points, stored, packing, rank, out, stride, shift);
                }
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
    tiles: &Tiles,
    block: usize,
    products: *const f32,
    stride: usize,
    thread: usize,
) {
    let (height, width) = (tiling.height(), tiling.width());
    let shift = tiling.skipped(tiles).map(|skipped| -(16 * skipped as isize));
    let mut half = 0;
    while half < 16 {
        let channel = block * 16 + half;
        let (mut places, mut first) = (tiling.places(tiles, 0), 0);
        while first < tiles.len() {
            let last = tiles.len().min(first + RUN);
            // SAFETY: the caller's promises; the epilogue covers the map.
            unsafe {
                let mut run = epilogue.begin::<S>(channel);
                for rank in first..last {
                    let Some(place) = places.next() else { break };
                    let Place { image, y, x, rows, columns } = place;
                    let from = products.add(rank * 16 + half);
                    let corner = (image * height + y) * width + x;
                    if rows == Span::Four && columns == Span::Four && y + TILE <= height && x + TILE <= width
                    {
                        let mut m = [[S::splat(0.0); POINTS]; POINTS];
                        for i in 0..POINTS {
                            for j in 0..POINTS {
                                m[i][j] =
                                    S::load(from.add((i * POINTS + j) * stride).offset(shift_of(j, shift)));
                            }
                        }
                        let outputs = output_tile4::<S>(&m);
                        for i in 0..TILE {
                            for j in 0..TILE {
                                let offset = (corner + i * width + j) * channels + channel;
                                epilogue.apply::<S>(&mut run, outputs[i][j], offset);
                            }
                        }
                    } else {
                        let mut m = [[S::splat(0.0); POINTS]; POINTS];
                        for i in 0..POINTS {
                            for j in 0..POINTS {
                                if rows.has(i) && columns.has(j) {
                                    let at = from.add((i * POINTS + j) * stride);
                                    m[i][j] = S::load(at.offset(shift_of(j, shift)));
                                }
                            }
                        }
                        let outputs = narrow_output_tile::<S>(&m, rows, columns);
                        for i in 0..rows.outputs().min(height - y) {
                            for j in 0..columns.outputs().min(width - x) {
                                let offset = (corner + i * width + j) * channels + channel;
                                epilogue.apply::<S>(&mut run, outputs[i][j], offset);
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
