//! Filters: OIHW weights to the 36 points of a panel of 16 output channels, `[xi][C][16]`, or `[xi][C/2][16][2]` where
//! a step of the product takes two channels.
//!
//! The same code serves the forward convolution (lanes are output channels) and the input gradient (lanes are
//! input channels, taps rotated by 180 degrees): only the strides differ.

use std::ops::Range;

use super::tiles::pad;
use super::tiling::XI;
use super::transforms::filter_tile3;
use crate::cpu::conv::taps::load_taps;
use crate::cpu::simd::{Lanes, Octet, Simd};

/// How a filter tensor is read.
#[derive(Clone, Copy)]
pub(crate) struct FilterView {
    /// OIHW, 9 taps each.
    pub(crate) weights: *const f32,
    /// Floats between the channels that become lanes.
    pub(crate) lane_stride: usize,
    /// Floats between the channels that are summed over.
    pub(crate) inner_stride: usize,
    /// Whether taps are rotated by 180 degrees.
    pub(crate) rotated: bool,
    /// One factor a lane channel.
    pub(crate) scale: Option<*const f32>,
}

// SAFETY: only read from, and what it points to outlives the kernel call that made it.
unsafe impl Sync for FilterView {}
// SAFETY: as above.
unsafe impl Send for FilterView {}

/// Elements between the points of a panel with `inner` summed channels.
pub(crate) const fn panel_stride<E>(inner: usize) -> usize {
    inner * 16 + pad::<E>()
}

/// Elements of a panel.
pub(crate) const fn panel_len<E>(inner: usize) -> usize {
    XI * panel_stride::<E>(inner)
}

/// Transforms the filters of lanes `block * 16 ..` and the summed channels `inner` into `panel`.
///
/// # Safety
/// `S` available; the view must cover the channels, whole steps of them; `panel` must hold `panel_len(inner.len())`.
#[inline(always)]
pub(crate) unsafe fn transform_panel<S: Simd, E: Lanes>(
    view: &FilterView,
    block: usize,
    inner: Range<usize>,
    panel: *mut E,
) {
    let stride = panel_stride::<E>(inner.len());
    let mut points = [0.0f32; 2 * XI * 16];
    const { assert!(E::STEP <= 2, "room for the points of a step") };
    let mut channel = inner.start;
    while channel < inner.end {
        // SAFETY: the caller's promises; the points of a step lie in the array.
        unsafe {
            for step in 0..E::STEP {
                let to = points.as_mut_ptr().add(step * XI * 16);
                transform_channel::<S::Octet>(view, block, channel + step, to);
            }
            let to = panel.add((channel - inner.start) * 16);
            for xi in 0..XI {
                E::store_row::<S>(to.add(xi * stride), points.as_ptr().add(xi * 16), XI * 16);
            }
        }
        channel += E::STEP;
    }
}

/// The points `[xi][16]` of the filters of lanes `block * 16 ..` and one summed channel.
///
/// # Safety
/// `O` available; the view must cover the channels; `points` must hold `XI * 16` floats.
#[inline(always)]
unsafe fn transform_channel<O: Octet>(view: &FilterView, block: usize, channel: usize, points: *mut f32) {
    for half in [0, 8] {
        let lane = block * 16 + half;
        // SAFETY: rows of 9 taps, the first 8 as a vector, the last as scalars; all inside the view.
        unsafe {
            let from = view.weights.add(lane * view.lane_stride + channel * view.inner_stride);
            let taps = load_taps::<O>(from, view.lane_stride);
            let mut g = [[O::splat(0.0); 3]; 3];
            for i in 0..3 {
                for j in 0..3 {
                    g[i][j] = if view.rotated { taps[8 - i * 3 - j] } else { taps[i * 3 + j] };
                }
            }
            if let Some(scale) = view.scale {
                let scale = O::load(scale.add(lane));
                for i in 0..3 {
                    for j in 0..3 {
                        g[i][j] = O::mul(g[i][j], scale);
                    }
                }
            }
            let transformed = filter_tile3::<O>(&g);
            for i in 0..6 {
                for j in 0..6 {
                    O::store(points.add((i * 6 + j) * 16 + half), transformed[i][j]);
                }
            }
        }
    }
}
