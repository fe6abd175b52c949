//! Packs OIHW weights as `[lanes/16][tap][inner][16]`, or `[lanes/16][tap][inner/2][16][2]` where a step of the product
//! takes two channels, for either direction.

use std::ops::Range;

use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::conv::taps::load_taps;
use crate::cpu::simd::{Element, Kernel, Octet, Simd, dispatch};

/// How the weights are read: which channels become lanes, which are summed over.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    lanes: usize,
    inner: usize,
    lane_stride: usize,
    inner_stride: usize,
    taps: usize,
}

impl Layout {
    /// Lanes are output channels.
    pub(crate) fn forward(inputs: usize, outputs: usize, taps: usize) -> Self {
        Self { lanes: outputs, inner: inputs, lane_stride: inputs * taps, inner_stride: taps, taps }
    }

    /// Lanes are input channels.
    pub(crate) fn transposed(inputs: usize, outputs: usize, taps: usize) -> Self {
        Self { lanes: inputs, inner: outputs, lane_stride: taps, inner_stride: inputs * taps, taps }
    }
}

/// Packs into taps `first_tap ..` of `out`, which has `all_taps` of them.
pub(crate) fn pack<E: Element>(
    pool: &ThreadPool,
    weights: &[f32],
    layout: Layout,
    scale: Option<&[f32]>,
    all_taps: usize,
    first_tap: usize,
    out: &mut [E],
) {
    assert!(weights.len() == layout.lanes * layout.inner * layout.taps, "checked by the caller");
    assert!(out.len() == layout.lanes * layout.inner * all_taps, "checked by the caller");
    assert!(layout.taps == 9 || layout.taps == 1);
    let out = SharedMut::new(out);
    assert!(scale.is_none_or(|scale| scale.len() == layout.lanes), "checked by the caller");
    pool.run(|thread| {
        let kernel = Pack {
            weights: weights.as_ptr(),
            layout,
            scale: scale.map(<[f32]>::as_ptr),
            all_taps,
            first_tap,
            out: out.as_ptr(),
            // Split over lanes and inner channels, so that narrow layers use every thread.
            items: split(layout.lanes / 16 * layout.inner, pool.threads(), thread),
        };
        // SAFETY: the pool's level is available; lengths are checked above; items are disjoint.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

struct Pack<E> {
    weights: *const f32,
    layout: Layout,
    scale: Option<*const f32>,
    all_taps: usize,
    first_tap: usize,
    out: *mut E,
    items: Range<usize>,
}

impl<E: Element> Kernel for Pack<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `pack` checked the lengths.
        unsafe { self.pack::<S::Octet>() }
    }
}

impl<E: Element> Pack<E> {
    /// # Safety
    /// `O` available, lengths checked.
    #[inline(always)]
    unsafe fn pack<O: Octet>(&self) {
        let Layout { inner, lane_stride, inner_stride, taps, .. } = self.layout;
        for item in self.items.clone() {
            let (block, channel) = (item / inner, item % inner);
            for half in [0, 8] {
                let lane = block * 16 + half;
                // SAFETY: inside the weights and `out`, as `pack` checked.
                unsafe {
                    let from = self.weights.add(lane * lane_stride + channel * inner_stride);
                    let scale = match self.scale {
                        Some(scale) => O::load(scale.add(lane)),
                        None => O::splat(1.0),
                    };
                    let first = block * self.all_taps + self.first_tap;
                    let step = channel / E::STEP * E::STEP;
                    let to = self.out.add((first * inner + step) * 16 + half * E::STEP + channel % E::STEP);
                    if taps == 9 {
                        let rows = load_taps::<O>(from, lane_stride);
                        for tap in 0..9 {
                            scatter::<O, E>(to.add(tap * inner * 16), O::mul(rows[tap], scale));
                        }
                    } else {
                        let mut row = [0.0f32; 8];
                        for i in 0..8 {
                            row[i] = *from.add(i * lane_stride);
                        }
                        scatter::<O, E>(to, O::mul(O::load(row.as_ptr()), scale));
                    }
                }
            }
        }
    }
}

/// Writes the values of eight lanes, a step apart.
///
/// # Safety
/// `O` available; `to` covers them.
#[inline(always)]
unsafe fn scatter<O: Octet, E: Element>(to: *mut E, v: O::V) {
    let mut lanes = [0.0f32; 8];
    // SAFETY: the caller's promise.
    unsafe {
        O::store(lanes.as_mut_ptr(), v);
        for (lane, &value) in lanes.iter().enumerate() {
            *to.add(lane * E::STEP) = E::from_f32(value);
        }
    }
}
