//! What the forward convolution and the input gradient have in common: transform, multiply, transform back.

use std::ops::Range;

use super::blocking::Blocking;
use super::filter::{FilterView, panel_len, panel_stride, transform_panel};
use super::tiles::{Packing, pack_inputs, unpack_outputs};
use super::tiling::{Items, POINTS, Tiles, Tiling, XI};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::conv::micro::{self, GROUP, Panels, Products, Rows};
use crate::cpu::fuse::load::{CheckedSource, with_load};
use crate::cpu::fuse::store::{CheckedEpilogue, with_store};
use crate::cpu::simd::{Element, Kernel, Simd, dispatch, elements};

/// Filters as they come, or as panels transformed beforehand.
#[derive(Clone, Copy)]
pub(crate) enum FilterSource<E> {
    View(FilterView),
    Panels(*const E),
}

// SAFETY: only read from, and what it points to outlives the kernel call.
unsafe impl<E: Element> Sync for FilterSource<E> {}

/// Transforms all filters into panels `[K/16][xi][C][16]`.
pub(crate) fn transform_all<E: Element>(
    pool: &ThreadPool,
    view: FilterView,
    blocks: usize,
    inner: usize,
    out: &mut [E],
) {
    assert!(out.len() >= blocks * panel_len::<E>(inner), "room for all panels");
    let out = SharedMut::new(out);
    pool.run(|thread| {
        let kernel =
            TransformPanels { view, blocks: split(blocks, pool.threads(), thread), inner, out: out.as_ptr() };
        // SAFETY: the pool's level is available; threads write disjoint panels inside `out`.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

struct TransformPanels<E> {
    view: FilterView,
    blocks: Range<usize>,
    inner: usize,
    out: *mut E,
}

impl<E: Element> Kernel for TransformPanels<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for block in self.blocks {
            // SAFETY: the maker of this kernel checked the lengths.
            unsafe {
                let panel = self.out.add(block * panel_len::<E>(self.inner));
                transform_panel::<S, E>(&self.view, block, 0..self.inner, panel);
            }
        }
    }
}

/// Runs the convolution of `input` to `outer` channels.
pub(crate) fn run<E: Element>(
    pool: &ThreadPool,
    blocking: &Blocking,
    input: MapShape,
    outer: usize,
    source: CheckedSource<E>,
    filters: FilterSource<E>,
    epilogue: CheckedEpilogue<E>,
    workspace: &mut Buffer,
) {
    let (inner, threads) = (input.channels, pool.threads());
    let needed = blocking.workspace::<E>(inner, outer, threads);
    assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
    let tiling = Tiling::new(input);

    let filters_len = blocking.filters_len::<E>(inner, outer);
    let filter_copies = if blocking.fused_filters { threads } else { 1 };
    let (filter_space, rest) = workspace.split_at_mut(filters_len * filter_copies);
    let transformed = match filters {
        FilterSource::View(view) if !blocking.fused_filters => {
            transform_all(pool, view, outer / 16, inner, elements::<E>(filter_space));
            true
        }
        _ => false,
    };
    let tile_copies = if blocking.shared_tiles { 1 } else { threads };
    let (tile_space, product_space) = rest.split_at_mut(blocking.tiles_len::<E>(inner) * tile_copies);
    let filter_space = SharedMut::new(filter_space);
    let tile_space = SharedMut::new(tile_space);
    let product_space = SharedMut::new(product_space);
    // The pointer that panels are read by comes after the last borrow of the space, which would end an earlier one.
    let filters =
        if transformed { FilterSource::Panels(filter_space.as_ptr().cast_const().cast()) } else { filters };

    let job = |thread: usize| Convolve {
        blocking: *blocking,
        tiling,
        inner,
        outer,
        source,
        filters,
        epilogue,
        thread,
        // SAFETY: each thread's own part of the space checked above.
        filter_space: unsafe {
            filter_space.as_ptr().add(if blocking.fused_filters { thread * filters_len } else { 0 }).cast()
        },
        // SAFETY: as above; shared tiles are written in disjoint parts and read after a join.
        tile_space: unsafe {
            tile_space
                .as_ptr()
                .add(if blocking.shared_tiles { 0 } else { thread * blocking.tiles_len::<E>(inner) })
                .cast()
        },
        // SAFETY: as above.
        product_space: unsafe { product_space.as_ptr().add(thread * blocking.products_len()) },
        tiles: tiling.tiles(),
        phase: Phase::Private,
        threads,
    };
    if !blocking.shared_tiles {
        // SAFETY: the pool's level is available; every pointer was checked above.
        pool.run(|thread| unsafe { dispatch(pool.level(), job(thread)) });
        return;
    }
    let all = tiling.tiles();
    let blocks = all.len().div_ceil(blocking.tiles);
    for block in 0..blocks {
        for phase in [Phase::Pack, Phase::Multiply] {
            pool.run(|thread| {
                let kernel = Convolve { tiles: all.part(blocks, block), phase, ..job(thread) };
                // SAFETY: as above.
                unsafe { dispatch(pool.level(), kernel) }
            });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything, on private tiles.
    Private,
    /// Transform this thread's part of the shared tiles.
    Pack,
    /// Multiply this thread's panels and transform them back.
    Multiply,
}

struct Convolve<E> {
    blocking: Blocking,
    tiling: Tiling,
    inner: usize,
    outer: usize,
    source: CheckedSource<E>,
    filters: FilterSource<E>,
    epilogue: CheckedEpilogue<E>,
    filter_space: *mut E,
    tile_space: *mut E,
    product_space: *mut f32,
    /// All, or those that are shared now.
    tiles: Tiles,
    phase: Phase,
    thread: usize,
    threads: usize,
}

impl<E: Element> Kernel for Convolve<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `run` checked every length and gave each thread its own spaces.
        unsafe {
            match self.phase {
                Phase::Private => {
                    let mine = self.tiles.part(self.threads, self.thread);
                    // Equal blocks rather than full ones and a small rest.
                    let blocks = mine.len().div_ceil(self.blocking.tiles).max(1);
                    for block in 0..blocks {
                        let tiles = mine.part(blocks, block);
                        self.pack::<S>(Items::all(tiles.clone(), self.inner, 1), 0);
                        let mut panel = 0;
                        while panel < self.outer / 16 {
                            let last = (self.outer / 16).min(panel + self.blocking.panels);
                            self.multiply::<S>(&tiles, 0, panel..last);
                            panel = last;
                        }
                    }
                }
                Phase::Pack => {
                    for piece in 0..self.blocking.pieces {
                        let tiles = self.tiles.part(self.blocking.pieces, piece);
                        let items = Items::all(tiles, self.inner, 1);
                        self.pack::<S>(items.share(self.threads, self.thread), piece);
                    }
                }
                Phase::Multiply => {
                    let panels = (self.outer / 16).div_ceil(self.blocking.panels);
                    let pieces = self.blocking.pieces;
                    for task in split(panels * pieces, self.threads, self.thread) {
                        let (panel, piece) = (task / pieces, task % pieces);
                        let first = panel * self.blocking.panels;
                        let last = (self.outer / 16).min(first + self.blocking.panels);
                        let tiles = self.tiles.part(pieces, piece);
                        // Each kind of tile is split for itself, so a piece may have none.
                        if tiles.len() > 0 {
                            self.multiply::<S>(&tiles, piece, first..last);
                        }
                    }
                }
            }
        }
    }
}

impl<E: Element> Convolve<E> {
    /// # Safety
    /// `S` available; the spaces checked by `run`.
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, items: Items, piece: usize) {
        let stride = self.blocking.tile_stride::<E>(self.inner);
        let (tiling, inner, packing) = (&self.tiling, self.inner, Packing::Grouped);
        // SAFETY: the caller's promises.
        unsafe {
            let to = self.tile_space.add(piece * self.blocking.piece_len::<E>(inner));
            with_load!(self.source, load => pack_inputs::<S, _, _>(load, tiling, inner, items, packing, to, stride));
        }
    }

    /// Multiplies the packed tiles of a piece by `panels`.
    ///
    /// # Safety
    /// As `pack`.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, tiles: &Tiles, piece: usize, panels: Range<usize>) {
        let (tile_stride, product_stride) =
            (self.blocking.tile_stride::<E>(self.inner), self.blocking.product_stride());
        let products_len = XI * product_stride;
        // What is prepared needs no room, but may have to come from memory.
        let (at_once, cold) = match self.filters {
            FilterSource::Panels(_) => (self.inner, self.blocking.shared_tiles),
            FilterSource::View(_) => (self.blocking.inner, false),
        };
        // SAFETY: the caller's promises.
        unsafe {
            let packed = self.tile_space.add(piece * self.blocking.piece_len::<E>(self.inner));
            let mut from = 0;
            while from < self.inner {
                let to = self.inner.min(from + at_once);
                let (filters, filter_stride, filters_len) = match &self.filters {
                    FilterSource::Panels(all) => {
                        let first = all.add(panels.start * panel_len::<E>(self.inner) + from * 16);
                        (first, panel_stride::<E>(self.inner), panel_len::<E>(self.inner))
                    }
                    FilterSource::View(view) => {
                        let len = panel_len::<E>(to - from);
                        for (i, panel) in panels.clone().enumerate() {
                            transform_panel::<S, E>(view, panel, from..to, self.filter_space.add(i * len));
                        }
                        (self.filter_space.cast_const(), panel_stride::<E>(to - from), len)
                    }
                };
                for xi in 0..XI {
                    let rows = Rows {
                        data: packed.add(xi * tile_stride + from * GROUP).cast_const(),
                        group_stride: GROUP * self.inner,
                        count: self.tiling.count_at(tiles, xi / POINTS, xi % POINTS),
                    };
                    let panels = Panels {
                        data: filters.add(xi * filter_stride),
                        stride: filters_len,
                        count: panels.len(),
                        cold,
                    };
                    let out = Products {
                        data: self.product_space.add(xi * product_stride),
                        stride: products_len,
                        add: from > 0,
                    };
                    micro::multiply::<S, E>(rows, panels, to - from, out);
                }
                from = to;
            }
            for (i, panel) in panels.enumerate() {
                let products = self.product_space.add(i * products_len).cast_const();
                self.unpack::<S>(tiles, panel, products, product_stride);
            }
        }
    }

    /// # Safety
    /// As `pack`.
    #[inline(always)]
    unsafe fn unpack<S: Simd>(&self, tiles: &Tiles, panel: usize, products: *const f32, stride: usize) {
        let (tiling, outer, thread) = (&self.tiling, self.outer, self.thread);
        // SAFETY: the caller's promises.
        unsafe {
            with_store!(
                self.epilogue,
                store => unpack_outputs::<S, _>(store, tiling, outer, tiles, panel, products, stride, thread)
            );
        }
    }
}
