//! What a convolution reads: an activation as it lies in memory, or one computed on the fly from its parts.
//!
//! Fusing BatchNorm into the load saves storing the normalised activation (forward) and the gradient of the
//! raw convolution output (backward). Each kind is a type of its own with the pointers that it needs, so a kernel is
//! compiled for each (`with_load!`). Invariant: padding is zero *after* the function, so a kernel never calls
//! `load` for a pixel outside the map.

use crate::cpu::base::shape::{MapShape, check_at_least, check_len};
use crate::cpu::simd::{Element, Lanes, Simd};

/// An NHWC activation, stored or computed on the fly. Per-channel slices have one entry a channel, and whatever is
/// computed is so in f32.
#[derive(Clone, Copy)]
pub enum FusedLoad<'a, E = f32> {
    /// The values themselves.
    Plain(&'a [E]),
    /// `relu(raw * scale + shift)`: a raw convolution output through its BatchNorm and ReLU.
    BnRelu {
        /// The convolution's output.
        raw: &'a [E],
        /// `gamma / sqrt(var + eps)`.
        scale: &'a [f32],
        /// `beta - mean * scale`.
        shift: &'a [f32],
    },
    /// `a * grad + b * raw + c`: the gradient of a raw convolution output, from that of the BatchNorm's output.
    BnBackward {
        /// Gradient with respect to the BatchNorm's output.
        grad: &'a [E],
        /// The convolution's output.
        raw: &'a [E],
        /// `a`, `b` and `c` of every channel.
        coefficients: &'a Coefficients,
    },
}

/// `dx = on_grad * dy + on_raw * x + constant`, one value a channel each (spare ones at the end are ignored).
#[derive(Clone, Debug)]
pub struct Coefficients {
    /// `a`
    pub on_grad: Vec<f32>,
    /// `b`
    pub on_raw: Vec<f32>,
    /// `c`
    pub constant: Vec<f32>,
}

impl Coefficients {
    /// Zeros for `channels` channels.
    pub fn new(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self { on_grad: zeros.clone(), on_raw: zeros.clone(), constant: zeros }
    }
}

/// A [`FusedLoad`] whose lengths fit its shape, as pointers.
#[derive(Clone, Copy)]
pub(crate) enum CheckedSource<E> {
    Plain(PlainLoad<E>),
    BnRelu(BnReluLoad<E>),
    BnBackward(BnBackwardLoad<E>),
}

// SAFETY: only read from, and what it points to outlives the kernel call that made it.
unsafe impl<E: Element> Sync for CheckedSource<E> {}
// SAFETY: as above.
unsafe impl<E: Element> Send for CheckedSource<E> {}

/// Evaluates an expression with the load of a [`CheckedSource`], compiled once for each kind.
macro_rules! with_load {
    ($source:expr, $load:ident => $body:expr) => {
        match $source {
            $crate::cpu::fuse::load::CheckedSource::Plain($load) => $body,
            $crate::cpu::fuse::load::CheckedSource::BnRelu($load) => $body,
            $crate::cpu::fuse::load::CheckedSource::BnBackward($load) => $body,
        }
    };
}
pub(crate) use with_load;

impl<E: Element> FusedLoad<'_, E> {
    /// Checks every length against `shape`.
    #[track_caller]
    pub(crate) fn checked(&self, what: &str, shape: MapShape) -> CheckedSource<E> {
        match *self {
            FusedLoad::Plain(data) => {
                check_len(what, data, shape.len());
                CheckedSource::Plain(PlainLoad { data: data.as_ptr() })
            }
            FusedLoad::BnRelu { raw, scale, shift } => {
                check_len(what, raw, shape.len());
                check_len(what, scale, shape.channels);
                check_len(what, shift, shape.channels);
                let (raw, scale, shift) = (raw.as_ptr(), scale.as_ptr(), shift.as_ptr());
                CheckedSource::BnRelu(BnReluLoad { raw, scale, shift })
            }
            FusedLoad::BnBackward { grad, raw, coefficients } => {
                check_len(what, grad, shape.len());
                check_len(what, raw, shape.len());
                CheckedSource::BnBackward(BnBackwardLoad::checked(
                    what,
                    shape,
                    grad.as_ptr(),
                    raw.as_ptr(),
                    coefficients,
                ))
            }
        }
    }
}

/// How a kind of source is read, a vector of channels of one pixel at a time.
pub(crate) trait Load: Copy {
    /// What it needs of a vector of channels, whatever the pixel.
    type Constants<S: Simd>: Copy;

    /// The constants of the vector that starts at `channel`.
    ///
    /// # Safety
    /// `channel + S::LANES` must not exceed the channels.
    unsafe fn constants<S: Simd>(&self, channel: usize) -> Self::Constants<S>;

    /// The vector at `offset` values into the map.
    ///
    /// # Safety
    /// `offset + S::LANES` must not exceed the map.
    unsafe fn load<S: Simd>(&self, offset: usize, constants: &Self::Constants<S>) -> S::V;
}

/// [`FusedLoad::Plain`]
#[derive(Clone, Copy)]
pub(crate) struct PlainLoad<E> {
    data: *const E,
}

impl<E: Lanes> Load for PlainLoad<E> {
    type Constants<S: Simd> = ();

    #[inline(always)]
    unsafe fn constants<S: Simd>(&self, _channel: usize) {}

    #[inline(always)]
    unsafe fn load<S: Simd>(&self, offset: usize, (): &()) -> S::V {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe { E::load::<S>(self.data.add(offset)) }
    }
}

/// [`FusedLoad::BnRelu`]
#[derive(Clone, Copy)]
pub(crate) struct BnReluLoad<E> {
    raw: *const E,
    scale: *const f32,
    shift: *const f32,
}

impl<E: Lanes> Load for BnReluLoad<E> {
    /// Scale and shift.
    type Constants<S: Simd> = [S::V; 2];

    #[inline(always)]
    unsafe fn constants<S: Simd>(&self, channel: usize) -> [S::V; 2] {
        // SAFETY: checked lengths, the caller's promise on `channel`.
        unsafe { [S::load(self.scale.add(channel)), S::load(self.shift.add(channel))] }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(&self, offset: usize, [scale, shift]: &[S::V; 2]) -> S::V {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe { S::relu(S::fma(E::load::<S>(self.raw.add(offset)), *scale, *shift)) }
    }
}

/// [`FusedLoad::BnBackward`]
#[derive(Clone, Copy)]
pub(crate) struct BnBackwardLoad<E> {
    grad: *const E,
    raw: *const E,
    on_grad: *const f32,
    on_raw: *const f32,
    constant: *const f32,
}

impl<E> BnBackwardLoad<E> {
    /// Of two maps of this shape; checks the coefficients.
    #[track_caller]
    pub(crate) fn checked(
        what: &str,
        shape: MapShape,
        grad: *const E,
        raw: *const E,
        coefficients: &Coefficients,
    ) -> Self {
        let Coefficients { on_grad, on_raw, constant } = coefficients;
        for part in [on_grad, on_raw, constant] {
            check_at_least(what, part, shape.channels);
        }
        let (on_grad, on_raw, constant) = (on_grad.as_ptr(), on_raw.as_ptr(), constant.as_ptr());
        Self { grad, raw, on_grad, on_raw, constant }
    }
}

impl<E: Lanes> Load for BnBackwardLoad<E> {
    /// Factor of the gradient, factor of the convolution's output, constant.
    type Constants<S: Simd> = [S::V; 3];

    #[inline(always)]
    unsafe fn constants<S: Simd>(&self, channel: usize) -> [S::V; 3] {
        // SAFETY: checked lengths, the caller's promise on `channel`.
        unsafe {
            [
                S::load(self.on_grad.add(channel)),
                S::load(self.on_raw.add(channel)),
                S::load(self.constant.add(channel)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(&self, offset: usize, [on_grad, on_raw, constant]: &[S::V; 3]) -> S::V {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe {
            let raw = S::fma(E::load::<S>(self.raw.add(offset)), *on_raw, *constant);
            S::fma(E::load::<S>(self.grad.add(offset)), *on_grad, raw)
        }
    }
}
