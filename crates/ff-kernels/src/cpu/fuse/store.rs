//! What a convolution does with each output value while it is still in a register.
//!
//! Four kinds: store; store and gather BatchNorm's moments; add a bias and a residual, then ReLU (inference);
//! and, for gradients, add what the output already holds, mask by a ReLU and gather the two sums that the
//! BatchNorm before that ReLU needs.
//! Invariant: sums of a run (a few hundred values of one channel) are taken in `f32`, squares about the run's
//! first value, and carried to `f64`; so a large mean does not drown the variance.

use crate::cpu::base::shape::{MapShape, check_len};
use crate::cpu::fuse::sums::{ChannelSums, SumRows};
use crate::cpu::simd::Simd;

/// What happens to an output value before it is stored.
pub enum Epilogue<'a> {
    /// Nothing.
    Store,
    /// `(sum y, sum y^2)` per channel are gathered.
    Statistics(&'a mut ChannelSums),
    /// `y + bias (+ residual)`, then ReLU if wanted.
    Inference {
        /// One value a channel.
        bias: &'a [f32],
        /// Same shape as the output.
        residual: Option<&'a [f32]>,
        /// Whether a ReLU follows.
        activation: Activation,
    },
    /// A gradient on its way back through a ReLU and a BatchNorm.
    Gradient(Gradient<'a>),
}

/// What follows a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(y, 0)`
    Relu,
    /// Nothing.
    Identity,
}

/// See [`Epilogue::Gradient`]; the steps happen in the order of the fields.
pub struct Gradient<'a> {
    /// Whether the output's old contents are added.
    pub accumulate: Accumulate,
    /// Zero the gradient where the forward pass's ReLU gave zero.
    pub mask: Mask<'a>,
    /// Gather `(sum g, sum g (x - mean))` per channel.
    pub moments: Option<Moments<'a>>,
}

/// Whether a kernel overwrites its output or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// Overwrite.
    No,
    /// Add.
    Yes,
}

/// Where a ReLU let its input through.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Everywhere: no ReLU.
    None,
    /// Where this activation (the ReLU's output) is positive.
    Activation(&'a [f32]),
    /// Where `raw * scale + shift` is positive: the ReLU's input was not stored.
    Bn {
        /// The convolution's output.
        raw: &'a [f32],
        /// Per channel.
        scale: &'a [f32],
        /// Per channel.
        shift: &'a [f32],
    },
}

/// The BatchNorm whose backward sums are gathered.
pub struct Moments<'a> {
    /// Its input.
    pub raw: &'a [f32],
    /// The batch mean of its input, per channel.
    pub mean: &'a [f32],
    /// Where the sums go.
    pub sums: &'a mut ChannelSums,
}

pub(crate) const STORE: u8 = 0;
pub(crate) const STATISTICS: u8 = 1;
pub(crate) const INFERENCE: u8 = 2;
pub(crate) const GRADIENT: u8 = 3;

/// A checked [`Epilogue`] as pointers; null where a part is absent.
#[derive(Clone, Copy)]
pub(crate) struct RawEpilogue {
    pub(crate) kind: u8,
    out: *mut f32,
    relu: bool,
    accumulate: bool,
    /// residual, or the mask's tensor
    other: *const f32,
    /// bias, or the mask's scale
    scale: *const f32,
    shift: *const f32,
    raw: *const f32,
    mean: *const f32,
    sums: SumRows,
}

// SAFETY: threads write disjoint outputs and their own rows of sums; everything outlives the kernel call.
unsafe impl Sync for RawEpilogue {}
// SAFETY: as above.
unsafe impl Send for RawEpilogue {}

impl RawEpilogue {
    /// Checks every length against `shape`, the shape of `out`.
    #[track_caller]
    pub(crate) fn checked(shape: MapShape, out: &mut [f32], epilogue: Epilogue<'_>, threads: usize) -> Self {
        check_len("output", out, shape.len());
        let null = std::ptr::null();
        let mut raw = Self {
            kind: STORE,
            out: out.as_mut_ptr(),
            relu: false,
            accumulate: false,
            other: null,
            scale: null,
            shift: null,
            raw: null,
            mean: null,
            sums: SumRows::NONE,
        };
        match epilogue {
            Epilogue::Store => {}
            Epilogue::Statistics(sums) => {
                raw.kind = STATISTICS;
                raw.sums = sums.rows(shape.channels, threads);
            }
            Epilogue::Inference { bias, residual, activation } => {
                check_len("bias", bias, shape.channels);
                raw.kind = INFERENCE;
                raw.scale = bias.as_ptr();
                raw.relu = activation == Activation::Relu;
                if let Some(residual) = residual {
                    check_len("residual", residual, shape.len());
                    raw.other = residual.as_ptr();
                }
            }
            Epilogue::Gradient(Gradient { accumulate, mask, moments }) => {
                raw.kind = GRADIENT;
                raw.accumulate = accumulate == Accumulate::Yes;
                match mask {
                    Mask::None => {}
                    Mask::Activation(activation) => {
                        check_len("mask", activation, shape.len());
                        raw.other = activation.as_ptr();
                    }
                    Mask::Bn { raw: x, scale, shift } => {
                        check_len("mask", x, shape.len());
                        check_len("mask scale", scale, shape.channels);
                        check_len("mask shift", shift, shape.channels);
                        raw.other = x.as_ptr();
                        raw.scale = scale.as_ptr();
                        raw.shift = shift.as_ptr();
                    }
                }
                if let Some(Moments { raw: x, mean, sums }) = moments {
                    check_len("moments' tensor", x, shape.len());
                    check_len("moments' mean", mean, shape.channels);
                    raw.raw = x.as_ptr();
                    raw.mean = mean.as_ptr();
                    raw.sums = sums.rows(shape.channels, threads);
                }
            }
        }
        raw
    }

    /// Starts a run of values of the channels from `channel` on.
    ///
    /// # Safety
    /// `channel + S::LANES` must not exceed the channels, and `KIND` must be `self.kind`.
    #[inline(always)]
    pub(crate) unsafe fn begin<S: Simd, const KIND: u8>(&self, channel: usize) -> Run<S> {
        // SAFETY: checked lengths.
        unsafe {
            let zero = S::splat(0.0);
            Run {
                scale: load_or_zero::<S>(self.scale, channel),
                shift: load_or_zero::<S>(self.shift, channel),
                pivot: load_or_zero::<S>(self.mean, channel),
                first: zero,
                second: zero,
                count: 0,
            }
        }
    }

    /// Finishes and stores the vector `v` at `offset` floats into the output.
    ///
    /// # Safety
    /// `offset + S::LANES` must not exceed the map, `KIND` must be `self.kind`, and the channel that of `run`.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd, const KIND: u8>(&self, run: &mut Run<S>, v: S::V, offset: usize) {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe {
            let mut v = v;
            match KIND {
                STATISTICS => {
                    if run.count == 0 {
                        run.pivot = v;
                    }
                    run.count += 1;
                    let d = S::sub(v, run.pivot);
                    run.first = S::add(run.first, d);
                    run.second = S::fma(d, d, run.second);
                }
                INFERENCE => {
                    v = S::add(v, run.scale);
                    if !self.other.is_null() {
                        v = S::add(v, S::load(self.other.add(offset)));
                    }
                    if self.relu {
                        v = S::relu(v);
                    }
                }
                GRADIENT => {
                    if self.accumulate {
                        v = S::add(v, S::load(self.out.add(offset)));
                    }
                    if !self.other.is_null() {
                        let mut m = S::load(self.other.add(offset));
                        if !self.scale.is_null() {
                            m = S::fma(m, run.scale, run.shift);
                        }
                        v = S::keep_positive(v, m);
                    }
                    if self.sums.is_some() {
                        run.first = S::add(run.first, v);
                        let x = S::sub(S::load(self.raw.add(offset)), run.pivot);
                        run.second = S::fma(v, x, run.second);
                    }
                }
                _ => {}
            }
            S::store(self.out.add(offset), v);
        }
    }

    /// Carries the sums of a run into the row of `thread`.
    ///
    /// # Safety
    /// As `begin`, with the same `channel`; every thread passes its own index.
    #[inline(always)]
    pub(crate) unsafe fn end<S: Simd, const KIND: u8>(&self, run: Run<S>, thread: usize, channel: usize) {
        if (KIND != STATISTICS && KIND != GRADIENT) || !self.sums.is_some() {
            return;
        }
        let (mut first, mut second, mut pivot) = ([0.0f32; 16], [0.0f32; 16], [0.0f32; 16]);
        // SAFETY: the arrays hold a vector of any level; the row of sums is this thread's.
        unsafe {
            S::store(first.as_mut_ptr(), run.first);
            S::store(second.as_mut_ptr(), run.second);
            S::store(pivot.as_mut_ptr(), run.pivot);
            let n = run.count as f64;
            for lane in 0..S::LANES {
                let (s, q, p) = (f64::from(first[lane]), f64::from(second[lane]), f64::from(pivot[lane]));
                let (s, q) = if KIND == STATISTICS { (s + n * p, q + p * (2.0 * s + n * p)) } else { (s, q) };
                self.sums.add(thread, channel + lane, s, q);
            }
        }
    }
}

/// # Safety
/// `p`, unless null, must cover `channel + S::LANES` floats.
#[inline(always)]
unsafe fn load_or_zero<S: Simd>(p: *const f32, channel: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if p.is_null() { S::splat(0.0) } else { S::load(p.add(channel)) } }
}

/// The running sums and constants of one vector of channels.
pub(crate) struct Run<S: Simd> {
    scale: S::V,
    shift: S::V,
    pivot: S::V,
    first: S::V,
    second: S::V,
    count: usize,
}
