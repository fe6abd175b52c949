//! Optimiser updates as one pass over flat parameter slices.
//!
//! Each function updates a run of parameters that share their hyper-parameters (a parameter group); the caller cuts
//! the flat vector into such runs. Clipping (a factor on the gradient) and the moving average of the weights ride on
//! the same pass, which memory bounds. Element by element, the arithmetic is that of PyTorch's single-tensor CPU
//! implementations. Nothing here knows names, shapes or schedules.

/// An exponential moving average of the parameters, moved after the step: `values += (1 - decay) * (params - values)`.
#[derive(Debug)]
pub struct Ema<'a> {
    /// The average, as long as the parameters.
    pub values: &'a mut [f32],
    /// Share of the old average that stays.
    pub decay: f64,
}

/// The l2 norm of `values`, summed in f64.
pub fn l2_norm(values: &[f32]) -> f64 {
    // Sixteen sums side by side, so that the additions do not wait for each other.
    let mut sums = [0.0f64; 16];
    let chunks = values.chunks_exact(16);
    let rest: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    (sums.iter().sum::<f64>() + rest).sqrt()
}

/// The factor that shortens a gradient of this norm to `max_norm` (`torch.nn.utils.clip_grad_norm_`).
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// One AdamW step (Loshchilov and Hutter, 2019), as `torch.optim.AdamW` defines it.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; the parameters shrink by `lr * weight_decay`.
    pub weight_decay: f64,
    /// Which step this is, from 1: corrects the moments' bias.
    pub step: u64,
    /// Factor on the gradient: 1, or less where clipping shortens it.
    pub grad_scale: f64,
}

impl AdamW {
    /// Updates `params` and both moments, all of one length, from `grads`; then the average, if there is one.
    pub fn apply(
        &self,
        params: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        grads: &[f32],
        ema: Option<Ema>,
    ) {
        let n = params.len();
        let lengths = [first.len(), second.len(), grads.len()];
        assert_eq!(lengths, [n; 3], "parameters, moments and gradients differ in length");
        let step = self.step as i32;
        let decay = (1.0 - self.lr * self.weight_decay) as f32;
        let step_size = (self.lr / (1.0 - self.beta1.powi(step))) as f32;
        let inv_root_correction = (1.0 / (1.0 - self.beta2.powi(step)).sqrt()) as f32;
        let (beta2, eps, scale) = (self.beta2 as f32, self.eps as f32, self.grad_scale as f32);
        let (keep1, keep2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        each(params, ema, |i, p| {
            let g = grads[i] * scale;
            let m = first[i] + (g - first[i]) * keep1;
            let v = second[i] * beta2 + g * g * keep2;
            first[i] = m;
            second[i] = v;
            p * decay - step_size * m / (v.sqrt() * inv_root_correction + eps)
        });
    }
}

/// One step of stochastic gradient descent with momentum, as `torch.optim.SGD` defines it (dampening 0).
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the velocity.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// Factor on the gradient: 1, or less where clipping shortens it.
    pub grad_scale: f64,
}

impl Sgd {
    /// Updates `params` and `velocity`, of one length, from `grads`; then the average, if there is one.
    pub fn apply(&self, params: &mut [f32], velocity: &mut [f32], grads: &[f32], ema: Option<Ema>) {
        let n = params.len();
        assert_eq!(
            [velocity.len(), grads.len()],
            [n; 2],
            "parameters, velocity and gradients differ in length"
        );
        let (lr, momentum, weight_decay) = (self.lr as f32, self.momentum as f32, self.weight_decay as f32);
        let scale = self.grad_scale as f32;
        each(params, ema, |i, p| {
            let g = grads[i] * scale + weight_decay * p;
            let v = momentum * velocity[i] + g;
            velocity[i] = v;
            p - lr * if self.nesterov { g + momentum * v } else { v }
        });
    }
}

/// Replaces every parameter by `update(index, parameter)`, and moves the average after it.
#[inline(always)]
fn each(params: &mut [f32], ema: Option<Ema>, mut update: impl FnMut(usize, f32) -> f32) {
    match ema {
        None => {
            for (i, p) in params.iter_mut().enumerate() {
                *p = update(i, *p);
            }
        }
        Some(Ema { values, decay }) => {
            assert_eq!(values.len(), params.len(), "parameters and their average differ in length");
            let keep = (1.0 - decay) as f32;
            for (i, (p, average)) in params.iter_mut().zip(values).enumerate() {
                *p = update(i, *p);
                *average += (*p - *average) * keep;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `torch.optim` 2.x on one parameter tensor [1, -2, 0.5], gradients [0.1, -0.2, 0.3] at the
    /// first step and [-0.3, 0.1, 0.2] at the second, as `tests/optim_golden.py` prints them.
    const GRADS: [[f32; 3]; 2] = [[0.1, -0.2, 0.3], [-0.3, 0.1, 0.2]];

    const ADAMW_AFTER_TWO: [f32; 3] = [0.947_519_96, -1.869_468_3, 0.302_065_28];
    const SGD_AFTER_TWO: [f32; 3] = [1.008_111, -1.966_222, 0.421_580_5];
    const NESTEROV_AFTER_TWO: [f32; 3] = [1.025_329_7, -1.955_659_4, 0.378_505_1];

    const CLIPPED_SGD_AFTER_TWO: [f32; 3] = [1.002_986_1, -1.979_246_1, 0.457_408_4];

    fn assert_close(actual: &[f32], expected: &[f32]) {
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= 1e-6 * e.abs().max(1.0), "{actual:?} vs {expected:?}");
        }
    }

    #[test]
    fn adamw_agrees_with_pytorch() {
        let (mut p, mut m, mut v) = ([1.0, -2.0, 0.5], [0.0; 3], [0.0; 3]);
        for (i, grads) in GRADS.iter().enumerate() {
            let step = i as u64 + 1;
            AdamW { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step, grad_scale: 1.0 }
                .apply(&mut p, &mut m, &mut v, grads, None);
        }
        assert_close(&p, &ADAMW_AFTER_TWO);
    }

    #[test]
    fn sgd_agrees_with_pytorch() {
        for (nesterov, max_norm, expected) in [
            (false, f64::INFINITY, SGD_AFTER_TWO),
            (true, f64::INFINITY, NESTEROV_AFTER_TWO),
            (false, 0.2, CLIPPED_SGD_AFTER_TWO),
        ] {
            let (mut p, mut v) = ([1.0, -2.0, 0.5], [0.0; 3]);
            for grads in &GRADS {
                let grad_scale = clip_factor(l2_norm(grads), max_norm);
                Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov, grad_scale }
                    .apply(&mut p, &mut v, grads, None);
            }
            assert_close(&p, &expected);
        }
    }

    #[test]
    fn the_average_follows_the_updated_parameters_and_changes_nothing_else() {
        let sgd = Sgd { lr: 0.5, momentum: 0.0, weight_decay: 0.0, nesterov: false, grad_scale: 1.0 };
        let (mut p, mut v, mut average) = ([1.0, 2.0], [0.0; 2], [1.0, 2.0]);
        sgd.apply(&mut p, &mut v, &[2.0, -2.0], Some(Ema { values: &mut average, decay: 0.75 }));
        assert_eq!((p, average), ([0.0, 3.0], [0.75, 2.25]));
    }

    #[test]
    fn norms_of_any_length_follow_the_definition() {
        for n in [0, 1, 15, 16, 33, 1000] {
            let values: Vec<f32> = (0..n).map(|i| i as f32 * 0.25 - 3.0).collect();
            let expected = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            assert!((l2_norm(&values) - expected).abs() <= 1e-12 * expected.max(1.0));
        }
    }
}
