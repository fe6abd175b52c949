//! BatchNorm: batch statistics from sums, gradients from sums, and the passes that cannot ride on a convolution.
//!
//! Forward `y = scale * x + shift` with `scale = gamma / sqrt(var + eps)`, `shift = beta - mean * scale`.
//! Backward `dx = a * dy + b * x + c` per channel, where `a`, `b`, `c` come from `sum dy` and `sum dy (x - mean)`:
//! so either direction is one fused multiply-add an element, which convolutions do as they load (see
//! [`crate::Source`]), and only the additions of residual branches need passes of their own.

use crate::cpu::base::shape::{MapShape, check_at_least, check_channels, check_len};
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::fuse::sums::{ChannelSums, SumRows};
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// What the forward pass leaves for the backward: one value a channel each.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Batch mean.
    pub mean: Vec<f32>,
    /// `1 / sqrt(batch variance + eps)`
    pub inv_std: Vec<f32>,
    /// `gamma * inv_std`
    pub scale: Vec<f32>,
    /// `beta - mean * scale`
    pub shift: Vec<f32>,
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

/// Running statistics and how they follow the batch's.
pub struct Running<'a> {
    /// Running mean.
    pub mean: &'a mut [f32],
    /// Running (unbiased) variance.
    pub var: &'a mut [f32],
    /// Weight of the new batch.
    pub momentum: f32,
}

impl Coefficients {
    /// Zeros for `channels` channels.
    pub fn new(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self { on_grad: zeros.clone(), on_raw: zeros.clone(), constant: zeros }
    }
}

impl Norm {
    /// Zeros for `channels` channels.
    pub fn new(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self { mean: zeros.clone(), inv_std: zeros.clone(), scale: zeros.clone(), shift: zeros }
    }

    /// Takes the statistics of `count` values a channel from `(sum x, sum x^2)` and moves the running ones.
    pub fn from_sums(
        &mut self,
        sums: &ChannelSums,
        count: usize,
        gamma: &[f32],
        beta: &[f32],
        running: Running<'_>,
        eps: f32,
    ) {
        let (n, momentum) = (count as f64, f64::from(running.momentum));
        for c in 0..self.mean.len() {
            let (sum, squares) = sums.total(c);
            let mean = sum / n;
            let var = (squares / n - mean * mean).max(0.0);
            let inv_std = 1.0 / (var + f64::from(eps)).sqrt();
            let scale = f64::from(gamma[c]) * inv_std;
            self.mean[c] = mean as f32;
            self.inv_std[c] = inv_std as f32;
            self.scale[c] = scale as f32;
            self.shift[c] = (f64::from(beta[c]) - mean * scale) as f32;
            let unbiased = var * n / (n - 1.0).max(1.0);
            running.mean[c] = ((1.0 - momentum) * f64::from(running.mean[c]) + momentum * mean) as f32;
            running.var[c] = ((1.0 - momentum) * f64::from(running.var[c]) + momentum * unbiased) as f32;
        }
    }

    /// Takes the gradients of `gamma` and `beta` and the coefficients of the input's from
    /// `(sum dy, sum dy (x - mean))`.
    pub fn backward(
        &self,
        sums: &ChannelSums,
        count: usize,
        gamma: &[f32],
        grad_gamma: &mut [f32],
        grad_beta: &mut [f32],
        coefficients: &mut Coefficients,
    ) {
        let n = count as f64;
        for c in 0..self.mean.len() {
            let (sum, moment) = sums.total(c);
            let (mean, inv_std) = (f64::from(self.mean[c]), f64::from(self.inv_std[c]));
            let on_grad = f64::from(gamma[c]) * inv_std;
            let on_raw = -on_grad * inv_std * inv_std * moment / n;
            grad_gamma[c] = (moment * inv_std) as f32;
            grad_beta[c] = sum as f32;
            coefficients.on_grad[c] = on_grad as f32;
            coefficients.on_raw[c] = on_raw as f32;
            coefficients.constant[c] = (-on_grad * sum / n - on_raw * mean) as f32;
        }
    }
}

/// What is added to a block's last BatchNorm before its ReLU.
#[derive(Clone, Copy)]
pub enum Residual<'a> {
    /// An activation.
    Plain(&'a [f32]),
    /// `raw * scale + shift`: the branch beside a strided block.
    Bn {
        /// The branch's convolution output.
        raw: &'a [f32],
        /// Its BatchNorm.
        norm: &'a Norm,
    },
}

/// `out = relu(raw * scale + shift + residual)`
///
/// # Panics
/// Channels that are no multiple of 16; a length that does not fit the shape.
pub fn add_relu(
    pool: &ThreadPool,
    shape: MapShape,
    raw: &[f32],
    norm: &Norm,
    residual: Residual<'_>,
    out: &mut [f32],
) {
    check_channels("BatchNorm", shape.channels);
    check_len("BatchNorm input", raw, shape.len());
    check_len("BatchNorm output", out, shape.len());
    check_len("BatchNorm scale", &norm.scale, shape.channels);
    check_len("BatchNorm shift", &norm.shift, shape.channels);
    let (other, other_norm) = match residual {
        Residual::Plain(x) => (x, None),
        Residual::Bn { raw, norm } => {
            check_len("residual scale", &norm.scale, shape.channels);
            check_len("residual shift", &norm.shift, shape.channels);
            (raw, Some(norm))
        }
    };
    check_len("residual", other, shape.len());
    let out = SharedMut::new(out);
    pool.run(|thread| {
        let null = std::ptr::null();
        let (other_scale, other_shift) =
            other_norm.map_or((null, null), |norm| (norm.scale.as_ptr(), norm.shift.as_ptr()));
        let kernel = Pass {
            what: What::AddRelu,
            channels: shape.channels,
            pixels: split(shape.pixels(), pool.threads(), thread),
            out: out.as_ptr(),
            x: raw.as_ptr(),
            other: other.as_ptr(),
            constants: [norm.scale.as_ptr(), norm.shift.as_ptr(), other_scale, other_shift],
        };
        // SAFETY: the pool's level is available; lengths are checked; pixels are disjoint.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

/// `grad = a * grad + b * raw + c`: the gradient of a BatchNorm's input, in place of that of its output.
///
/// # Panics
/// As [`add_relu`].
pub fn apply_backward(
    pool: &ThreadPool,
    shape: MapShape,
    raw: &[f32],
    coefficients: &Coefficients,
    grad: &mut [f32],
) {
    check_channels("BatchNorm", shape.channels);
    check_len("BatchNorm input", raw, shape.len());
    check_len("BatchNorm gradient", grad, shape.len());
    let Coefficients { on_grad, on_raw, constant } = coefficients;
    for part in [on_grad, on_raw, constant] {
        check_at_least("BatchNorm coefficients", part, shape.channels);
    }
    let grad = SharedMut::new(grad);
    pool.run(|thread| {
        let kernel = Pass {
            what: What::ApplyBackward,
            channels: shape.channels,
            pixels: split(shape.pixels(), pool.threads(), thread),
            out: grad.as_ptr(),
            x: raw.as_ptr(),
            other: std::ptr::null(),
            constants: [on_grad.as_ptr(), on_raw.as_ptr(), constant.as_ptr(), std::ptr::null()],
        };
        // SAFETY: the pool's level is available; lengths are checked; pixels are disjoint.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

/// Gathers `(sum grad, sum grad (raw - mean))`.
///
/// # Panics
/// As [`add_relu`]; sums that were not made for these channels and threads.
pub fn gather_backward(
    pool: &ThreadPool,
    shape: MapShape,
    grad: &[f32],
    raw: &[f32],
    mean: &[f32],
    sums: &mut ChannelSums,
) {
    /// Pixels summed in `f32` before they are carried to `f64`.
    const RUN: usize = 256;
    let channels = shape.channels;
    check_channels("BatchNorm", channels);
    check_len("BatchNorm input", raw, shape.len());
    check_len("BatchNorm gradient", grad, shape.len());
    check_len("BatchNorm mean", mean, channels);
    let rows = sums.rows(channels, pool.threads());
    pool.run(|thread| {
        let pixels = split(shape.pixels(), pool.threads(), thread);
        let mut first = pixels.start;
        while first < pixels.end {
            let part = first * channels..pixels.end.min(first + RUN) * channels;
            let kernel = Gather { grad: &grad[part.clone()], raw: &raw[part], mean, rows, thread };
            // SAFETY: the pool's level is available; the sums hold these channels and this thread.
            unsafe { dispatch(pool.level(), kernel) }
            first += RUN;
        }
    });
}

/// Adds `(sum grad, sum grad (raw - mean))` of a run of pixels to the sums of one thread.
pub(crate) struct Gather<'a> {
    /// `[pixel][channel]`
    pub(crate) grad: &'a [f32],
    /// The same.
    pub(crate) raw: &'a [f32],
    /// One value a channel; its length is the number of channels.
    pub(crate) mean: &'a [f32],
    pub(crate) rows: SumRows,
    pub(crate) thread: usize,
}

impl Kernel for Gather<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.mean.len();
        check_len("gathered tensor", self.raw, self.grad.len());
        let mut channel = 0;
        while channel < channels {
            // SAFETY: whole pixels of both tensors; the maker of this kernel vouches for the sums.
            unsafe {
                let mean = S::load(self.mean.as_ptr().add(channel));
                let (mut sum, mut moment) = (S::splat(0.0), S::splat(0.0));
                let mut at = channel;
                while at < self.grad.len() {
                    let g = S::load(self.grad.as_ptr().add(at));
                    let x = S::sub(S::load(self.raw.as_ptr().add(at)), mean);
                    sum = S::add(sum, g);
                    moment = S::fma(g, x, moment);
                    at += channels;
                }
                let (mut sums, mut moments) = ([0.0f32; 16], [0.0f32; 16]);
                S::store(sums.as_mut_ptr(), sum);
                S::store(moments.as_mut_ptr(), moment);
                for lane in 0..S::LANES {
                    let (sum, moment) = (f64::from(sums[lane]), f64::from(moments[lane]));
                    self.rows.add(self.thread, channel + lane, sum, moment);
                }
            }
            channel += S::LANES;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    AddRelu,
    ApplyBackward,
}

struct Pass {
    what: What,
    channels: usize,
    pixels: std::ops::Range<usize>,
    out: *mut f32,
    x: *const f32,
    other: *const f32,
    constants: [*const f32; 4],
}

impl Kernel for Pass {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [a, b, c, d] = self.constants;
        for pixel in self.pixels {
            let mut channel = 0;
            while channel < self.channels {
                let at = pixel * self.channels + channel;
                // SAFETY: the makers of this kernel checked the lengths.
                unsafe {
                    let x = S::load(self.x.add(at));
                    let (a, b) = (S::load(a.add(channel)), S::load(b.add(channel)));
                    let y = if self.what == What::AddRelu {
                        let mut other = S::load(self.other.add(at));
                        if !c.is_null() {
                            other = S::fma(other, S::load(c.add(channel)), S::load(d.add(channel)));
                        }
                        S::relu(S::add(S::fma(x, a, b), other))
                    } else {
                        S::fma(S::load(self.out.add(at)), a, S::fma(x, b, S::load(c.add(channel))))
                    };
                    S::store(self.out.add(at), y);
                }
                channel += S::LANES;
            }
        }
    }
}
