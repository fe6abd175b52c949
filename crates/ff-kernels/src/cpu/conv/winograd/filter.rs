//! Filters: OIHW weights to the 36 points of a panel of 16 output channels, `[xi][C][16]`.
//!
//! The same code serves the forward convolution (lanes are output channels) and the input gradient (lanes are
//! input channels, taps rotated by 180 degrees): only the strides differ.

use std::ops::Range;

use super::tiles::PAD;
use super::transforms::{XI, filter_tile3};
use crate::cpu::conv::taps::load_taps;
use crate::cpu::simd::Octet;

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

/// Floats between the points of a panel with `inner` summed channels.
pub(crate) const fn panel_stride(inner: usize) -> usize {
    inner * 16 + PAD
}

/// Floats of a panel.
pub(crate) const fn panel_len(inner: usize) -> usize {
    XI * panel_stride(inner)
}

/// Transforms the filters of lanes `block * 16 ..` and the summed channels `inner` into `panel`.
///
/// # Safety
/// `O` available; the view must cover the channels; `panel` must hold `panel_len(inner.len())` floats.
#[inline(always)]
pub(crate) unsafe fn transform_panel<O: Octet>(
    view: &FilterView,
    block: usize,
    inner: Range<usize>,
    panel: *mut f32,
) {
    let stride = panel_stride(inner.len());
    for (row, channel) in inner.enumerate() {
        let mut half = 0;
        while half < 16 {
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
                let points = filter_tile3::<O>(&g);
                let out = panel.add(row * 16 + half);
                for i in 0..6 {
                    for j in 0..6 {
                        O::store(out.add((i * 6 + j) * stride), points[i][j]);
                    }
                }
            }
            half += 8;
        }
    }
}
