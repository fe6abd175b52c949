//! BatchNorm over (B,C,H,W), as `torch.nn.BatchNorm2d` defines it: eps 1e-5.
//!
//! Training normalises with the batch's biased variance; the running variance follows the unbiased one. Nothing here
//! keeps state: the caller owns the running statistics.

use candle_core::{D, Tensor};
use ff_kernels::network::EPS;

use crate::Result;

/// Mean and unbiased variance of one batch, (C,) each, outside any gradient.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Mean over (B,H,W).
    pub mean: Tensor,
    /// Variance over (B,H,W), with n - 1 below.
    pub var: Tensor,
}

/// `x` (B,C,H,W) normalised by its own statistics, scaled by `weight` (C,) and shifted by `bias` (C,).
pub fn batch_norm_train(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<(Tensor, BatchStatistics)> {
    let (b, c, h, w) = x.dims4()?;
    let per_channel = |t: &Tensor| t.reshape((1, c, 1, 1));
    // Over the map first and the batch last: contiguous rows, and sums short enough for f32.
    let mean_over_batch = |t: &Tensor| t.flatten_from(2)?.mean(D::Minus1)?.mean(0);
    let mean = mean_over_batch(x)?;
    let centred = x.broadcast_sub(&per_channel(&mean)?)?;
    let var = mean_over_batch(&centred.sqr()?)?;
    let scale = (weight / (&var + EPS)?.sqrt()?)?;
    let y = centred.broadcast_mul(&per_channel(&scale)?)?.broadcast_add(&per_channel(bias)?)?;
    let n = (b * h * w) as f64;
    // One value a channel has no unbiased variance; PyTorch refuses it, we keep the biased one.
    let unbiased = (var.detach() * (n / (n - 1.0).max(1.0)))?;
    Ok((y, BatchStatistics { mean: mean.detach(), var: unbiased }))
}

/// `x` (B,C,H,W) normalised by running statistics (C,).
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    var: &Tensor,
) -> Result<Tensor> {
    let scale = (weight / (var + EPS)?.sqrt()?)?;
    let shift = (bias - (mean * &scale)?)?;
    let per_channel = |t: &Tensor| t.reshape((1, t.elem_count(), 1, 1));
    Ok(x.broadcast_mul(&per_channel(&scale)?)?.broadcast_add(&per_channel(&shift)?)?)
}
