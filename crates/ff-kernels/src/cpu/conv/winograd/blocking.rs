//! How a convolution is cut into pieces that fit the caches: a fixed rule of shape and thread count.
//!
//! Measured on Zen 3 (32 KiB L1, 512 KiB L2 a core, 32 MiB L3). Few channels: each thread transforms a block of
//! tiles, multiplies and transforms back, all private. Many channels: all threads transform all tiles, then each
//! takes panels of output channels, whose filters it transforms just before they are used.

use std::fmt;

use super::filter::{panel_len, panel_stride};
use super::tiles::pad;
use super::tiling::{Tiling, XI};
use crate::cpu::base::shape::MapShape;
use crate::cpu::conv::micro::GROUP;
use crate::cpu::simd::Lanes;

/// Blocking of the forward convolution and the input gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocking {
    /// Whether threads share the transformed tiles and split the output channels.
    pub(crate) shared_tiles: bool,
    /// Tiles transformed at a time.
    pub(crate) tiles: usize,
    /// Blocks of 16 output channels multiplied before they are transformed back.
    pub(crate) panels: usize,
    /// Summed channels a filter panel holds at a time.
    pub(crate) inner: usize,
    /// Whether a panel's filters are transformed where they are used.
    pub(crate) fused_filters: bool,
    /// Pieces that shared tiles are packed in: several where there are more threads than panels.
    pub(crate) pieces: usize,
    /// More tiles that a block may have, as each kind is split for itself.
    uneven: usize,
}

/// Bytes of transformed tiles that threads share at most: of the L3 cache.
const SHARED_TILES: usize = 12 << 20;

/// Bytes of a channel's filters summed at a time, where they are transformed on the way: 36 points of 32 channels are
/// 576 KiB, of a second cache of 1 MiB.
const FUSED: usize = 512;

/// Floats of space that hold `len` elements: whole cache lines.
fn floats<E>(len: usize) -> usize {
    (len * size_of::<E>()).next_multiple_of(64) / size_of::<f32>()
}

impl Blocking {
    /// For convolving `input` to `outer` channels.
    pub(crate) fn choose<E: Lanes>(input: MapShape, outer: usize, threads: usize) -> Self {
        let tiling = Tiling::new(input);
        let (tiles, inner, uneven) = (tiling.tiles().len(), input.channels, tiling.kinds() - 1);
        let few_tiles = tiles < 12 * threads;
        let private = |tiles_at_once: usize, panels: usize| Self {
            shared_tiles: false,
            tiles: tiles_at_once.min(tiles.div_ceil(threads) + uneven),
            panels: panels.min(outer / 16),
            inner,
            fused_filters: false,
            pieces: 1,
            uneven,
        };
        if inner * outer <= 64 * 64 && !few_tiles {
            private(24, outer / 16)
        } else if inner * outer <= 128 * 128 && !few_tiles {
            private(48, 2)
        } else if inner * outer <= 256 * 256 && tiles >= 48 * threads {
            private(96, 2)
        } else {
            let most = (SHARED_TILES / (XI * inner * size_of::<E>())).max(4 * GROUP) / GROUP * GROUP;
            let blocks = tiles.div_ceil(most);
            let panels = 2.min(outer / 16);
            Self {
                shared_tiles: true,
                tiles: tiles.div_ceil(blocks),
                panels,
                inner: inner.min(FUSED / size_of::<E>()),
                fused_filters: true,
                pieces: threads.div_ceil((outer / 16).div_ceil(panels)),
                uneven,
            }
        }
    }

    /// Room for the tiles of a piece, which are shared out unevenly where there are several kinds.
    fn room(&self) -> usize {
        (self.tiles.div_ceil(self.pieces) + self.uneven).next_multiple_of(GROUP)
    }

    /// Elements of a piece's transformed tiles.
    pub(crate) fn piece_len<E>(&self, inner: usize) -> usize {
        XI * self.tile_stride::<E>(inner)
    }

    /// Elements between the points of transformed tiles.
    pub(crate) fn tile_stride<E>(&self, inner: usize) -> usize {
        self.room() * inner + pad::<E>()
    }

    /// Floats between the points of products.
    pub(crate) fn product_stride(&self) -> usize {
        self.room() * 16 + pad::<f32>()
    }

    /// Floats of the transformed tiles.
    pub(crate) fn tiles_len<E>(&self, inner: usize) -> usize {
        floats::<E>(self.pieces * self.piece_len::<E>(inner))
    }

    pub(crate) fn products_len(&self) -> usize {
        self.panels * XI * self.product_stride()
    }

    /// Floats of the filters a thread transforms at a time, or of all filters where that is done beforehand.
    pub(crate) fn filters_len<E>(&self, inner: usize, outer: usize) -> usize {
        floats::<E>(if self.fused_filters {
            self.panels * XI * panel_stride::<E>(self.inner)
        } else {
            outer / 16 * panel_len::<E>(inner)
        })
    }

    /// Floats of workspace.
    pub(crate) fn workspace<E>(&self, inner: usize, outer: usize, threads: usize) -> usize {
        let filters = self.filters_len::<E>(inner, outer) * if self.fused_filters { threads } else { 1 };
        let tiles = self.tiles_len::<E>(inner) * if self.shared_tiles { 1 } else { threads };
        filters + tiles + self.products_len() * threads
    }
}

impl fmt::Display for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.shared_tiles { "shared tiles" } else { "private tiles" };
        write!(f, "{how}: {} tiles x {} channels", self.tiles, self.panels * 16)
    }
}

/// Blocking of the weight gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradientBlocking {
    /// Whether threads share the transformed tiles and split the output channels.
    pub(crate) shared_tiles: bool,
    /// Tiles transformed at a time.
    pub(crate) tiles: usize,
    /// More of them that a block may have, as each kind is split for itself.
    uneven: usize,
}

/// Output channels whose products are summed at a time where threads share the transformed tiles: two panels.
pub(crate) const COLUMNS: usize = 32;
/// Input channels of such a sum: its 36 products stay in a cache of 512 KiB until they are transformed back.
pub(crate) const ROWS: usize = 64;

impl GradientBlocking {
    pub(crate) fn choose(input: MapShape, outer: usize) -> Self {
        let tiling = Tiling::new(input);
        let (tiles, inner) = (tiling.tiles().len(), input.channels);
        if inner * outer <= 128 * 128 && tiles > 72 {
            let tiles = if inner * outer <= 64 * 64 { 48 } else { 72 };
            Self { shared_tiles: false, tiles, uneven: tiling.kinds() - 1 }
        } else {
            Self { shared_tiles: true, tiles, uneven: 0 }
        }
    }

    /// Room for steps of tiles.
    pub(crate) fn steps<E: Lanes>(&self) -> usize {
        (self.tiles + self.uneven).div_ceil(E::STEP)
    }

    /// Elements between the points of transformed tiles.
    pub(crate) fn stride<E: Lanes>(&self, channels: usize) -> usize {
        self.steps::<E>() * E::STEP * channels + pad::<E>()
    }

    /// Floats between the points of the products of `rows` input channels, `columns` wide.
    pub(crate) fn product_stride(rows: usize, columns: usize) -> usize {
        rows * columns + pad::<f32>()
    }

    /// Floats of the transformed tiles of both operands.
    pub(crate) fn tiles_len<E: Lanes>(&self, inner: usize, outer: usize) -> usize {
        floats::<E>(XI * (self.stride::<E>(inner) + self.stride::<E>(outer)))
    }

    /// Floats of a thread's products.
    pub(crate) fn products_len(&self, inner: usize, outer: usize) -> usize {
        XI * if self.shared_tiles {
            Self::product_stride(ROWS, COLUMNS)
        } else {
            Self::product_stride(inner, outer)
        }
    }

    pub(crate) fn workspace<E: Lanes>(&self, inner: usize, outer: usize, threads: usize) -> usize {
        let tile_copies = if self.shared_tiles { 1 } else { threads };
        tile_copies * self.tiles_len::<E>(inner, outer) + threads * self.products_len(inner, outer)
    }
}
