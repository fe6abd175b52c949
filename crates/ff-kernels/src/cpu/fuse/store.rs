//! What a convolution does with each output value while it is still in a register.
//!
//! Four kinds: store; store and gather BatchNorm's moments; add a bias and a residual, then ReLU (inference);
//! and, for gradients, add what the output already holds, mask by a ReLU and gather the two sums that the
//! BatchNorm before that ReLU needs.
//! Each kind is a type of its own with the pointers that it needs, so a kernel is compiled for each (`with_store!`).
//! Invariant: sums of a run (a few hundred values of one channel) are taken in `f32`, squares about the run's
//! first value, and carried to `f64`; so a large mean does not drown the variance. An output in bfloat16 is rounded
//! once, as it is stored, after everything else.

use super::sums::{ChannelSums, SumRows};
use crate::cpu::base::shape::{MapShape, check_len};
use crate::cpu::simd::{Element, Lanes, Simd};

/// What happens to an output value before it is stored.
pub enum Epilogue<'a, E = f32> {
    /// Nothing.
    Store,
    /// `(sum y, sum y^2)` per channel are gathered.
    Statistics(&'a mut ChannelSums),
    /// `y + bias (+ residual)`, then ReLU if wanted.
    Inference {
        /// One value a channel.
        bias: &'a [f32],
        /// Same shape as the output.
        residual: Option<&'a [E]>,
        /// Whether a ReLU follows.
        activation: Activation,
    },
    /// A gradient on its way back through a ReLU and a BatchNorm.
    Gradient(Gradient<'a, E>),
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
pub struct Gradient<'a, E = f32> {
    /// Whether the output's old contents are added.
    pub accumulate: Accumulate,
    /// Zero the gradient where the forward pass's ReLU gave zero.
    pub mask: Mask<'a, E>,
    /// Gather `(sum g, sum g (x - mean))` per channel.
    pub moments: Option<Moments<'a, E>>,
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
pub enum Mask<'a, E = f32> {
    /// Everywhere: no ReLU.
    None,
    /// Where this activation (the ReLU's output) is positive.
    Activation(&'a [E]),
    /// Where `raw * scale + shift` is positive: the ReLU's input was not stored.
    Bn {
        /// The convolution's output.
        raw: &'a [E],
        /// Per channel.
        scale: &'a [f32],
        /// Per channel.
        shift: &'a [f32],
    },
}

/// The BatchNorm whose backward sums are gathered.
pub struct Moments<'a, E = f32> {
    /// Its input.
    pub raw: &'a [E],
    /// The batch mean of its input, per channel.
    pub mean: &'a [f32],
    /// Where the sums go.
    pub sums: &'a mut ChannelSums,
}

/// An [`Epilogue`] whose lengths fit the output's shape, as pointers.
#[derive(Clone, Copy)]
pub(crate) enum CheckedEpilogue<E> {
    Store(PlainStore<E>),
    Statistics(StatisticsStore<E>),
    Inference(InferenceStore<E>),
    Gradient(GradientStore<E>),
}

// SAFETY: threads write disjoint outputs and their own rows of sums; everything outlives the kernel call.
unsafe impl<E: Element> Sync for CheckedEpilogue<E> {}
// SAFETY: as above.
unsafe impl<E: Element> Send for CheckedEpilogue<E> {}

/// Evaluates an expression with the store of a [`CheckedEpilogue`], compiled once for each kind.
macro_rules! with_store {
    ($epilogue:expr, $store:ident => $body:expr) => {
        match $epilogue {
            $crate::cpu::fuse::store::CheckedEpilogue::Store($store) => $body,
            $crate::cpu::fuse::store::CheckedEpilogue::Statistics($store) => $body,
            $crate::cpu::fuse::store::CheckedEpilogue::Inference($store) => $body,
            $crate::cpu::fuse::store::CheckedEpilogue::Gradient($store) => $body,
        }
    };
}
pub(crate) use with_store;

impl<E: Element> Epilogue<'_, E> {
    /// Checks every length against `shape`, the shape of `out`.
    #[track_caller]
    pub(crate) fn checked(self, shape: MapShape, out: &mut [E], threads: usize) -> CheckedEpilogue<E> {
        check_len("output", out, shape.len());
        let out = out.as_mut_ptr();
        match self {
            Epilogue::Store => CheckedEpilogue::Store(PlainStore { out }),
            Epilogue::Statistics(sums) => {
                let sums = sums.rows(shape.channels, threads);
                CheckedEpilogue::Statistics(StatisticsStore { out, sums })
            }
            Epilogue::Inference { bias, residual, activation } => {
                check_len("bias", bias, shape.channels);
                if let Some(residual) = residual {
                    check_len("residual", residual, shape.len());
                }
                let residual = residual.map(|residual| residual.as_ptr());
                CheckedEpilogue::Inference(InferenceStore { out, bias: bias.as_ptr(), residual, activation })
            }
            Epilogue::Gradient(Gradient { accumulate, mask, moments }) => {
                let mask = mask.checked(shape);
                let moments = moments.map(|moments| moments.checked(shape, threads));
                CheckedEpilogue::Gradient(GradientStore { out, accumulate, mask, moments })
            }
        }
    }
}

impl<E: Element> Mask<'_, E> {
    #[track_caller]
    fn checked(self, shape: MapShape) -> CheckedMask<E> {
        match self {
            Mask::None => CheckedMask::None,
            Mask::Activation(activation) => {
                check_len("mask", activation, shape.len());
                CheckedMask::Activation(activation.as_ptr())
            }
            Mask::Bn { raw, scale, shift } => {
                check_len("mask", raw, shape.len());
                check_len("mask scale", scale, shape.channels);
                check_len("mask shift", shift, shape.channels);
                CheckedMask::Bn { raw: raw.as_ptr(), scale: scale.as_ptr(), shift: shift.as_ptr() }
            }
        }
    }
}

impl<E: Element> Moments<'_, E> {
    #[track_caller]
    fn checked(self, shape: MapShape, threads: usize) -> CheckedMoments<E> {
        let Moments { raw, mean, sums } = self;
        check_len("moments' tensor", raw, shape.len());
        check_len("moments' mean", mean, shape.channels);
        let sums = sums.rows(shape.channels, threads);
        CheckedMoments { raw: raw.as_ptr(), mean: mean.as_ptr(), sums }
    }
}

/// How a kind of epilogue stores, run by run: some values of one vector of channels.
pub(crate) trait Store: Copy {
    /// The constants of a vector of channels, and the sums of a run.
    type Run<S: Simd>;

    /// Starts a run of values of the channels from `channel` on.
    ///
    /// # Safety
    /// `channel + S::LANES` must not exceed the channels.
    unsafe fn begin<S: Simd>(&self, channel: usize) -> Self::Run<S>;

    /// Finishes and stores the vector `v` at `offset` values into the output.
    ///
    /// # Safety
    /// `offset + S::LANES` must not exceed the map, and the channel that of `run`.
    unsafe fn apply<S: Simd>(&self, run: &mut Self::Run<S>, v: S::V, offset: usize);

    /// Carries the sums of a run into the row of `thread`.
    ///
    /// # Safety
    /// As `begin`, with the same `channel`; every thread passes its own index.
    unsafe fn end<S: Simd>(&self, run: Self::Run<S>, thread: usize, channel: usize);
}

/// [`Epilogue::Store`]
#[derive(Clone, Copy)]
pub(crate) struct PlainStore<E> {
    out: *mut E,
}

impl<E: Lanes> Store for PlainStore<E> {
    type Run<S: Simd> = ();

    #[inline(always)]
    unsafe fn begin<S: Simd>(&self, _channel: usize) {}

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, (): &mut (), v: S::V, offset: usize) {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe { E::store::<S>(self.out.add(offset), v) }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, (): (), _thread: usize, _channel: usize) {}
}

/// [`Epilogue::Statistics`]
#[derive(Clone, Copy)]
pub(crate) struct StatisticsStore<E> {
    out: *mut E,
    sums: SumRows,
}

/// Sums of a run about its first value, and how many values there were.
pub(crate) struct Spread<S: Simd> {
    pivot: S::V,
    sum: S::V,
    squares: S::V,
    count: usize,
}

impl<E: Lanes> Store for StatisticsStore<E> {
    type Run<S: Simd> = Spread<S>;

    #[inline(always)]
    unsafe fn begin<S: Simd>(&self, _channel: usize) -> Spread<S> {
        // SAFETY: `S` is available to whoever names it.
        let zero = unsafe { S::splat(0.0) };
        Spread { pivot: zero, sum: zero, squares: zero, count: 0 }
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, run: &mut Spread<S>, v: S::V, offset: usize) {
        if run.count == 0 {
            run.pivot = v;
        }
        run.count += 1;
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe {
            let d = S::sub(v, run.pivot);
            run.sum = S::add(run.sum, d);
            run.squares = S::fma(d, d, run.squares);
            E::store::<S>(self.out.add(offset), v);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, run: Spread<S>, thread: usize, channel: usize) {
        let (mut sums, mut squares, mut pivots) = ([0.0f32; 16], [0.0f32; 16], [0.0f32; 16]);
        let n = run.count as f64;
        // SAFETY: the arrays hold a vector of any level; the row of sums is this thread's.
        unsafe {
            S::store(sums.as_mut_ptr(), run.sum);
            S::store(squares.as_mut_ptr(), run.squares);
            S::store(pivots.as_mut_ptr(), run.pivot);
            for lane in 0..S::LANES {
                let (sum, square) = (f64::from(sums[lane]), f64::from(squares[lane]));
                let pivot = f64::from(pivots[lane]);
                let (sum, square) = (sum + n * pivot, square + pivot * (2.0 * sum + n * pivot));
                self.sums.add(thread, channel + lane, sum, square);
            }
        }
    }
}

/// [`Epilogue::Inference`]
#[derive(Clone, Copy)]
pub(crate) struct InferenceStore<E> {
    out: *mut E,
    bias: *const f32,
    residual: Option<*const E>,
    activation: Activation,
}

/// The bias of a vector of channels.
pub(crate) struct Bias<S: Simd>(S::V);

impl<E: Lanes> Store for InferenceStore<E> {
    type Run<S: Simd> = Bias<S>;

    #[inline(always)]
    unsafe fn begin<S: Simd>(&self, channel: usize) -> Bias<S> {
        // SAFETY: checked lengths, the caller's promise on `channel`.
        Bias(unsafe { S::load(self.bias.add(channel)) })
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, run: &mut Bias<S>, v: S::V, offset: usize) {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe {
            let mut v = S::add(v, run.0);
            if let Some(residual) = self.residual {
                v = S::add(v, E::load::<S>(residual.add(offset)));
            }
            if self.activation == Activation::Relu {
                v = S::relu(v);
            }
            E::store::<S>(self.out.add(offset), v);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, _run: Bias<S>, _thread: usize, _channel: usize) {}
}

/// [`Epilogue::Gradient`]
#[derive(Clone, Copy)]
pub(crate) struct GradientStore<E> {
    out: *mut E,
    accumulate: Accumulate,
    mask: CheckedMask<E>,
    moments: Option<CheckedMoments<E>>,
}

#[derive(Clone, Copy)]
enum CheckedMask<E> {
    None,
    Activation(*const E),
    Bn { raw: *const E, scale: *const f32, shift: *const f32 },
}

#[derive(Clone, Copy)]
struct CheckedMoments<E> {
    raw: *const E,
    mean: *const f32,
    sums: SumRows,
}

/// The constants of mask and moments, zeros where there is no such thing, and the two sums.
pub(crate) struct Gathered<S: Simd> {
    scale: S::V,
    shift: S::V,
    mean: S::V,
    sum: S::V,
    moment: S::V,
}

impl<E: Lanes> Store for GradientStore<E> {
    type Run<S: Simd> = Gathered<S>;

    #[inline(always)]
    unsafe fn begin<S: Simd>(&self, channel: usize) -> Gathered<S> {
        // SAFETY: checked lengths, the caller's promise on `channel`.
        unsafe {
            let zero = S::splat(0.0);
            let (scale, shift) = match self.mask {
                CheckedMask::Bn { scale, shift, .. } => {
                    (S::load(scale.add(channel)), S::load(shift.add(channel)))
                }
                CheckedMask::None | CheckedMask::Activation(_) => (zero, zero),
            };
            let mean = match self.moments {
                Some(moments) => S::load(moments.mean.add(channel)),
                None => zero,
            };
            Gathered { scale, shift, mean, sum: zero, moment: zero }
        }
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, run: &mut Gathered<S>, v: S::V, offset: usize) {
        // SAFETY: checked lengths, the caller's promise on `offset`.
        unsafe {
            let mut v = v;
            if self.accumulate == Accumulate::Yes {
                v = S::add(v, E::load::<S>(self.out.add(offset)));
            }
            match self.mask {
                CheckedMask::None => {}
                CheckedMask::Activation(activation) => {
                    v = S::keep_positive(v, E::load::<S>(activation.add(offset)));
                }
                CheckedMask::Bn { raw, .. } => {
                    v = S::keep_positive(v, S::fma(E::load::<S>(raw.add(offset)), run.scale, run.shift));
                }
            }
            if let Some(moments) = self.moments {
                run.sum = S::add(run.sum, v);
                let x = S::sub(E::load::<S>(moments.raw.add(offset)), run.mean);
                run.moment = S::fma(v, x, run.moment);
            }
            E::store::<S>(self.out.add(offset), v);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, run: Gathered<S>, thread: usize, channel: usize) {
        if let Some(moments) = self.moments {
            // SAFETY: the row of sums is this thread's, and holds the channels.
            unsafe { moments.sums.add_lanes::<S>(thread, channel, run.sum, run.moment) }
        }
    }
}
