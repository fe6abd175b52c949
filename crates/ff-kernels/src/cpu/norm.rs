//! BatchNorm: batch statistics from sums, gradients from sums, and the passes that cannot ride on a convolution.
//!
//! Forward `y = scale * x + shift` with `scale = gamma / sqrt(var + eps)`, `shift = beta - mean * scale`.
//! Backward `dx = a * dy + b * x + c` per channel, where `a`, `b`, `c` come from `sum dy` and `sum dy (x - mean)`:
//! so either direction is one fused multiply-add an element, which convolutions do as they load (see
//! [`crate::FusedLoad`]), and only the additions of residual branches need passes of their own.

use crate::cpu::base::shape::{MapShape, check_channels, check_len};
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::fuse::load::{BnBackwardLoad, Load};
use crate::cpu::fuse::sums::{ChannelSums, SumRows};
use crate::cpu::simd::{Element, Kernel, Lanes, Simd, dispatch};
use crate::network::MOMENTUM;

pub use crate::cpu::fuse::load::Coefficients;

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

/// What running statistics follow of a batch: one value a channel each, not rounded yet.
pub struct BatchStatistics<'a> {
    /// Mean.
    pub mean: &'a mut [f64],
    /// Unbiased variance.
    pub var: &'a mut [f64],
}

/// Moves running statistics towards a batch's; both are whole vectors in the order of the layout.
///
/// # Panics
/// They differ in length.
pub fn move_running(running: &mut [f32], batch: &[f64]) {
    check_len("batch statistics", batch, running.len());
    let momentum = f64::from(MOMENTUM as f32);
    for (running, batch) in running.iter_mut().zip(batch) {
        *running = ((1.0 - momentum) * f64::from(*running) + momentum * batch) as f32;
    }
}

impl Norm {
    /// Zeros for `channels` channels.
    pub fn new(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self { mean: zeros.clone(), inv_std: zeros.clone(), scale: zeros.clone(), shift: zeros }
    }

    /// Takes the statistics of `count` values a channel from `(sum x, sum x^2)`.
    pub fn from_sums(
        &mut self,
        sums: &ChannelSums,
        count: usize,
        gamma: &[f32],
        beta: &[f32],
        batch: BatchStatistics<'_>,
        eps: f32,
    ) {
        let n = count as f64;
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
            batch.mean[c] = mean;
            batch.var[c] = var * n / (n - 1.0).max(1.0);
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
pub enum Residual<'a, E = f32> {
    /// An activation.
    Plain(&'a [E]),
    /// `raw * scale + shift`: the branch beside a strided block.
    Bn {
        /// The branch's convolution output.
        raw: &'a [E],
        /// Its BatchNorm.
        norm: &'a Norm,
    },
}

/// `out = relu(raw * scale + shift + residual)`
///
/// # Panics
/// Channels that are no multiple of 16; a length that does not fit the shape.
pub fn add_relu<E: Element>(
    pool: &ThreadPool,
    shape: MapShape,
    raw: &[E],
    norm: &Norm,
    residual: Residual<'_, E>,
    out: &mut [E],
) {
    check_channels("BatchNorm", shape.channels);
    check_len("BatchNorm input", raw, shape.len());
    check_len("BatchNorm output", out, shape.len());
    check_len("BatchNorm scale", &norm.scale, shape.channels);
    check_len("BatchNorm shift", &norm.shift, shape.channels);
    match residual {
        Residual::Plain(x) => check_len("residual", x, shape.len()),
        Residual::Bn { raw, norm } => {
            check_len("residual", raw, shape.len());
            check_len("residual scale", &norm.scale, shape.channels);
            check_len("residual shift", &norm.shift, shape.channels);
        }
    }
    let out = SharedMut::new(out);
    pool.run(|thread| {
        let kernel = AddRelu {
            channels: shape.channels,
            pixels: split(shape.pixels(), pool.threads(), thread),
            raw: raw.as_ptr(),
            scale: norm.scale.as_ptr(),
            shift: norm.shift.as_ptr(),
            residual: match residual {
                Residual::Plain(x) => CheckedResidual::Plain(x.as_ptr()),
                Residual::Bn { raw, norm } => CheckedResidual::Bn {
                    raw: raw.as_ptr(),
                    scale: norm.scale.as_ptr(),
                    shift: norm.shift.as_ptr(),
                },
            },
            out: out.as_ptr(),
        };
        // SAFETY: the pool's level is available; lengths are checked; pixels are disjoint.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

/// `grad = a * grad + b * raw + c`: the gradient of a BatchNorm's input, in place of that of its output.
///
/// # Panics
/// As [`add_relu`].
pub fn apply_backward<E: Element>(
    pool: &ThreadPool,
    shape: MapShape,
    raw: &[E],
    coefficients: &Coefficients,
    grad: &mut [E],
) {
    check_channels("BatchNorm", shape.channels);
    check_len("BatchNorm input", raw, shape.len());
    check_len("BatchNorm gradient", grad, shape.len());
    let grad = SharedMut::new(grad);
    pool.run(|thread| {
        let (what, to) = ("BatchNorm coefficients", grad.as_ptr());
        let kernel = ApplyBackward {
            channels: shape.channels,
            pixels: split(shape.pixels(), pool.threads(), thread),
            load: BnBackwardLoad::checked(what, shape, to.cast_const(), raw.as_ptr(), coefficients),
            grad: to,
        };
        // SAFETY: the pool's level is available; lengths are checked; pixels are disjoint.
        unsafe { dispatch(pool.level(), kernel) }
    });
}

/// Gathers `(sum grad, sum grad (raw - mean))`.
///
/// # Panics
/// As [`add_relu`]; sums that were not made for these channels and threads.
pub fn gather_backward<E: Element>(
    pool: &ThreadPool,
    shape: MapShape,
    grad: &[E],
    raw: &[E],
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
pub(crate) struct Gather<'a, G, E> {
    /// `[pixel][channel]`
    pub(crate) grad: &'a [G],
    /// The same.
    pub(crate) raw: &'a [E],
    /// One value a channel; its length is the number of channels.
    pub(crate) mean: &'a [f32],
    pub(crate) rows: SumRows,
    pub(crate) thread: usize,
}

impl<G: Lanes, E: Lanes> Kernel for Gather<'_, G, E> {
    const BF16: bool = G::BF16 || E::BF16;

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
                    let g = G::load::<S>(self.grad.as_ptr().add(at));
                    let x = S::sub(E::load::<S>(self.raw.as_ptr().add(at)), mean);
                    sum = S::add(sum, g);
                    moment = S::fma(g, x, moment);
                    at += channels;
                }
                self.rows.add_lanes::<S>(self.thread, channel, sum, moment);
            }
            channel += S::LANES;
        }
    }
}

/// What is added before the ReLU, as pointers.
#[derive(Clone, Copy)]
enum CheckedResidual<E> {
    Plain(*const E),
    Bn { raw: *const E, scale: *const f32, shift: *const f32 },
}

/// [`add_relu`] of a range of pixels.
struct AddRelu<E> {
    channels: usize,
    pixels: std::ops::Range<usize>,
    raw: *const E,
    scale: *const f32,
    shift: *const f32,
    residual: CheckedResidual<E>,
    out: *mut E,
}

impl<E: Lanes> Kernel for AddRelu<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for pixel in self.pixels {
            let mut channel = 0;
            while channel < self.channels {
                let at = pixel * self.channels + channel;
                // SAFETY: `add_relu` checked the lengths.
                unsafe {
                    let (scale, shift) = (S::load(self.scale.add(channel)), S::load(self.shift.add(channel)));
                    let other = match self.residual {
                        CheckedResidual::Plain(x) => E::load::<S>(x.add(at)),
                        CheckedResidual::Bn { raw, scale, shift } => {
                            let (scale, shift) = (S::load(scale.add(channel)), S::load(shift.add(channel)));
                            S::fma(E::load::<S>(raw.add(at)), scale, shift)
                        }
                    };
                    let y = S::fma(E::load::<S>(self.raw.add(at)), scale, shift);
                    E::store::<S>(self.out.add(at), S::relu(S::add(y, other)));
                }
                channel += S::LANES;
            }
        }
    }
}

/// [`apply_backward`] of a range of pixels.
struct ApplyBackward<E> {
    channels: usize,
    pixels: std::ops::Range<usize>,
    /// Reads the old gradient at `grad`.
    load: BnBackwardLoad<E>,
    grad: *mut E,
}

impl<E: Lanes> Kernel for ApplyBackward<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for pixel in self.pixels {
            let mut channel = 0;
            while channel < self.channels {
                let at = pixel * self.channels + channel;
                // SAFETY: `apply_backward` checked the lengths.
                unsafe {
                    let constants = self.load.constants::<S>(channel);
                    E::store::<S>(self.grad.add(at), self.load.load::<S>(at, &constants));
                }
                channel += S::LANES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.BatchNorm2d`: a tenth of the batch's mean and of its unbiased variance.
    #[test]
    fn running_statistics_follow_a_tenth_of_the_batchs() {
        let (pixels, values) = (4, [1.0, 2.0, 4.0, 9.0]);
        let mut sums = ChannelSums::new(16, 1);
        sums.reset(16);
        let shape = MapShape { batch: 1, height: 1, width: pixels, channels: 16 };
        let map: Vec<f32> = values.iter().flat_map(|&value| [value; 16]).collect();
        // Sum x and sum x^2 are those that the gradient's gathering takes of (x, x) around 0.
        gather_backward(&ThreadPool::new(1), shape, &map, &map, &[0.0; 16], &mut sums);
        let (mut norm, mut batch) = (Norm::new(16), [0.0; 32]);
        let (mean, var) = batch.split_at_mut(16);
        norm.from_sums(&sums, pixels, &[1.0; 16], &[0.0; 16], BatchStatistics { mean, var }, 1e-5);
        let mut running = [0.5; 32];
        move_running(&mut running, &batch);
        let unbiased = (9.0 + 4.0 + 0.0 + 25.0) / 3.0;
        assert!((running[3] - (0.9 * 0.5 + 0.1 * 4.0)).abs() < 1e-6, "{}", running[3]);
        assert!((running[19] - (0.9 * 0.5 + 0.1 * unbiased)).abs() < 1e-6, "{}", running[19]);
    }
}
