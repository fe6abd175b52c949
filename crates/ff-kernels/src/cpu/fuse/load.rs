//! What a convolution reads: an activation as it lies in memory, or one computed on the fly from its parts.
//!
//! Fusing BatchNorm into the load saves storing the normalised activation (forward) and the gradient of the
//! raw convolution output (backward). Invariant: padding is zero *after* the function, so a kernel never calls
//! `load` for a pixel outside the map.

use crate::cpu::base::shape::{MapShape, check_at_least, check_len};
use crate::cpu::norm::Coefficients;
use crate::cpu::simd::Simd;

/// An NHWC activation, stored or computed on the fly. Per-channel slices have one entry a channel.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// The values themselves.
    Plain(&'a [f32]),
    /// `relu(raw * scale + shift)`: a raw convolution output through its BatchNorm and ReLU.
    BnRelu {
        /// The convolution's output.
        raw: &'a [f32],
        /// `gamma / sqrt(var + eps)`.
        scale: &'a [f32],
        /// `beta - mean * scale`.
        shift: &'a [f32],
    },
    /// `a * grad + b * raw + c`: the gradient of a raw convolution output, from that of the BatchNorm's output.
    BnBackward {
        /// Gradient with respect to the BatchNorm's output.
        grad: &'a [f32],
        /// The convolution's output.
        raw: &'a [f32],
        /// `a`, `b` and `c` of every channel.
        coefficients: &'a Coefficients,
    },
}

pub(crate) const PLAIN: u8 = 0;
pub(crate) const BN_RELU: u8 = 1;
pub(crate) const BN_BACKWARD: u8 = 2;

/// A checked [`Source`] as pointers.
#[derive(Clone, Copy)]
pub(crate) struct RawSource {
    pub(crate) kind: u8,
    data: *const f32,
    raw: *const f32,
    channel: [*const f32; 3],
}

// SAFETY: only read from, and what it points to outlives the kernel call that made it.
unsafe impl Sync for RawSource {}
// SAFETY: as above.
unsafe impl Send for RawSource {}

impl Source<'_> {
    /// Checks every length against `shape`.
    #[track_caller]
    pub(crate) fn checked(&self, what: &str, shape: MapShape) -> RawSource {
        let null = std::ptr::null();
        match *self {
            Source::Plain(data) => {
                check_len(what, data, shape.len());
                RawSource { kind: PLAIN, data: data.as_ptr(), raw: null, channel: [null; 3] }
            }
            Source::BnRelu { raw, scale, shift } => {
                check_len(what, raw, shape.len());
                check_len(what, scale, shape.channels);
                check_len(what, shift, shape.channels);
                let channel = [scale.as_ptr(), shift.as_ptr(), null];
                RawSource { kind: BN_RELU, data: raw.as_ptr(), raw: null, channel }
            }
            Source::BnBackward { grad, raw, coefficients } => {
                check_len(what, grad, shape.len());
                check_len(what, raw, shape.len());
                let Coefficients { on_grad, on_raw, constant } = coefficients;
                for part in [on_grad, on_raw, constant] {
                    check_at_least(what, part, shape.channels);
                }
                let channel = [on_grad.as_ptr(), on_raw.as_ptr(), constant.as_ptr()];
                RawSource { kind: BN_BACKWARD, data: grad.as_ptr(), raw: raw.as_ptr(), channel }
            }
        }
    }
}

impl RawSource {
    /// The per-channel constants of the vector that starts at `channel`.
    ///
    /// # Safety
    /// `channel + S::LANES` must not exceed the channels, and `KIND` must be `self.kind`.
    #[inline(always)]
    pub(crate) unsafe fn constants<S: Simd, const KIND: u8>(&self, channel: usize) -> [S::V; 3] {
        // SAFETY: checked lengths, the caller's promise on `channel`.
        unsafe {
            let [a, b, c] = self.channel;
            match KIND {
                BN_RELU => [S::load(a.add(channel)), S::load(b.add(channel)), S::splat(0.0)],
                BN_BACKWARD => [S::load(a.add(channel)), S::load(b.add(channel)), S::load(c.add(channel))],
                _ => [S::splat(0.0); 3],
            }
        }
    }

    /// The vector at `offset` floats into the map.
    ///
    /// # Safety
    /// `offset + S::LANES` must not exceed the map, and `KIND` must be `self.kind`.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd, const KIND: u8>(&self, offset: usize, k: &[S::V; 3]) -> S::V {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe {
            let x = S::load(self.data.add(offset));
            match KIND {
                BN_RELU => S::relu(S::fma(x, k[0], k[1])),
                BN_BACKWARD => S::fma(x, k[0], S::fma(S::load(self.raw.add(offset)), k[1], k[2])),
                _ => x,
            }
        }
    }
}
