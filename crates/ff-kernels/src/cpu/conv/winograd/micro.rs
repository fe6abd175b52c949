//! The micro-kernel of the forward convolution and the input gradient: a small block of a product in registers.
//!
//! 6 rows of 16 (12 vectors of AVX2 as accumulators, the BLIS scheme: Van Zee & van de Geijn 2015); AVX-512
//! takes 12 rows. Each step loads 16 values of one operand and broadcasts one value a row of the other.

use super::tiles::GROUP;
use crate::cpu::simd::Simd;

/// `out[tile][0..16] (+)= sum over channels of tiles[tile][channel] * filters[channel][0..16]` for
/// `G` groups of 6 tiles, of which the first `R` rows each are computed.
///
/// # Safety
/// `S` available; `tiles` is `G` groups `group_stride` apart, each `[channels/16][6][16]`; `filters` is
/// `[channels][16]`; `out` is `[6 * G][16]`.
#[inline(always)]
unsafe fn block<S: Simd, const G: usize, const R: usize>(
    tiles: *const f32,
    group_stride: usize,
    filters: *const f32,
    channels: usize,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[S::w_zero(); R]; G];
        let mut row = filters;
        for group in 0..channels / 16 {
            let from = tiles.add(group * GROUP * 16);
            for lane in 0..16 {
                let b = S::w_load(row);
                row = row.add(16);
                for g in 0..G {
                    for r in 0..R {
                        let a = S::splat(*from.add(g * group_stride + r * 16 + lane));
                        sums[g][r] = S::w_fma(a, b, sums[g][r]);
                    }
                }
            }
        }
        for g in 0..G {
            for r in 0..R {
                let to = out.add((g * GROUP + r) * 16);
                let sum = if add { S::w_add(S::w_load(to), sums[g][r]) } else { sums[g][r] };
                S::w_store(to, sum);
            }
        }
    }
}

/// One point of a panel: `out[tile][0..16] (+)= tiles * filters` for `count` tiles.
///
/// # Safety
/// As [`block`], for as many groups as `count` needs.
#[inline(always)]
pub(crate) unsafe fn multiply_tiles<S: Simd>(
    tiles: *const f32,
    group_stride: usize,
    filters: *const f32,
    channels: usize,
    out: *mut f32,
    count: usize,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut group = 0;
        let full = count / GROUP;
        if S::GROUPS == 2 {
            while group + 2 <= full {
                let (from, to) = (tiles.add(group * group_stride), out.add(group * GROUP * 16));
                block::<S, 2, 6>(from, group_stride, filters, channels, to, add);
                group += 2;
            }
        }
        while group < full {
            let (from, to) = (tiles.add(group * group_stride), out.add(group * GROUP * 16));
            block::<S, 1, 6>(from, group_stride, filters, channels, to, add);
            group += 1;
        }
        let (from, to) = (tiles.add(group * group_stride), out.add(group * GROUP * 16));
        match count % GROUP {
            1 => block::<S, 1, 1>(from, group_stride, filters, channels, to, add),
            2 => block::<S, 1, 2>(from, group_stride, filters, channels, to, add),
            3 => block::<S, 1, 3>(from, group_stride, filters, channels, to, add),
            4 => block::<S, 1, 4>(from, group_stride, filters, channels, to, add),
            5 => block::<S, 1, 5>(from, group_stride, filters, channels, to, add),
            _ => {}
        }
    }
}
