//! Max-pool 3x3, stride 2, padding 1 over (B,C,H,W) that can be differentiated: candle's own has no backward.
//!
//! On the CPU a custom op over `ff_kernels::cpu::pool::nchw`; elsewhere a composition of candle operations, equal to it
//! on non-negative inputs (the stem's, after ReLU), where zero padding never wins.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use ff_kernels::cpu::pool::nchw;
use ff_kernels::network::max_pool_size;

use crate::Result;

/// `x` (B,C,H,W), not negative, -> (B,C,ceil(H/2),ceil(W/2)).
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { Ok(x.contiguous()?.apply_op1(MaxPool)?) } else { composed(x) }
}

/// The maximum of nine shifted, strided views. Splits the gradient between equal maxima, which after a ReLU are zeros
/// whose gradient the ReLU drops.
fn composed(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let (oh, ow) = (max_pool_size(h), max_pool_size(w));
    let padded = x.pad_with_zeros(2, 1, 2 * oh + 1 - h)?.pad_with_zeros(3, 1, 2 * ow + 1 - w)?;
    let mut result: Option<Tensor> = None;
    for dy in 0..3 {
        for dx in 0..3 {
            let window = padded.narrow(2, dy, 2 * oh)?.narrow(3, dx, 2 * ow)?.contiguous()?;
            let window = window.reshape((b, c, oh, 2, ow, 2))?.narrow(3, 0, 1)?.narrow(5, 0, 1)?;
            let window = window.reshape((b, c, oh, ow))?;
            result = Some(match result {
                Some(best) => best.maximum(&window)?,
                None => window,
            });
        }
    }
    Ok(result.expect("there are nine windows"))
}

struct MaxPool;

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool-3x3-s2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let shape = (b, c, max_pool_size(h), max_pool_size(w));
        let mut output = vec![0.0; b * c * shape.2 * shape.3];
        nchw::forward(contiguous(storage, layout)?, (h, w), &mut output);
        Ok((CpuStorage::F32(output), shape.into()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad_res: &Tensor) -> candle_core::Result<Option<Tensor>> {
        arg.apply_op2_no_bwd(&grad_res.contiguous()?, &MaxPoolBackward).map(Some)
    }
}

/// (input, gradient of the output) -> gradient of the input.
struct MaxPoolBackward;

impl CustomOp2 for MaxPoolBackward {
    fn name(&self) -> &'static str {
        "max-pool-3x3-s2-backward"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, _, h, w) = input_layout.shape().dims4()?;
        let mut grad_input = vec![0.0; input_layout.shape().elem_count()];
        nchw::backward(
            contiguous(input, input_layout)?,
            contiguous(grad, grad_layout)?,
            (h, w),
            &mut grad_input,
        );
        Ok((CpuStorage::F32(grad_input), input_layout.shape().clone()))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("max-pool needs a contiguous tensor, found strides {:?}", layout.stride()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn composed_path_has_the_custom_ops_values_and_gradient() {
        for (h, w) in [(6, 8), (7, 5), (1, 3)] {
            let n = 2 * 3 * h * w;
            // Distinct positive values in a scrambled order: 7919 is coprime to every n here.
            let values: Vec<f32> = (0..n).map(|i| ((i * 7919) % n) as f32 + 1.0).collect();
            let x = Var::from_vec(values, (2, 3, h, w), &Device::Cpu).unwrap();
            let results = [max_pool(&x).unwrap(), composed(&x).unwrap()].map(|y| {
                let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                (flat(&y), flat(grads.get(&x).unwrap()))
            });
            assert_eq!(results[0], results[1], "{h}x{w}");
        }
    }
}
