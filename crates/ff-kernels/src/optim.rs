//! Optimiser updates as one pass over flat parameter slices.
//!
//! Each function updates a run of parameters that share their hyper-parameters (a parameter group); the caller cuts
//! the flat vector into such runs. Element by element, the arithmetic is that of PyTorch's single-tensor CPU
//! implementations. Nothing here knows names, shapes or schedules.

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
}

impl AdamW {
    /// Updates `params` and both moments, all of one length, from `grads`.
    pub fn apply(&self, params: &mut [f32], first: &mut [f32], second: &mut [f32], grads: &[f32]) {
        let n = params.len();
        assert!(
            first.len() == n && second.len() == n && grads.len() == n,
            "parameters, moments and gradients differ in length"
        );
        let step = self.step as i32;
        let decay = (1.0 - self.lr * self.weight_decay) as f32;
        let step_size = (self.lr / (1.0 - self.beta1.powi(step))) as f32;
        let inv_root_correction = (1.0 / (1.0 - self.beta2.powi(step)).sqrt()) as f32;
        let (beta2, eps) = (self.beta2 as f32, self.eps as f32);
        let (keep1, keep2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        for i in 0..n {
            let g = grads[i];
            let m = first[i] + (g - first[i]) * keep1;
            let v = second[i] * beta2 + g * g * keep2;
            first[i] = m;
            second[i] = v;
            params[i] = params[i] * decay - step_size * m / (v.sqrt() * inv_root_correction + eps);
        }
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
}

impl Sgd {
    /// Updates `params` and `velocity`, of one length, from `grads`.
    pub fn apply(&self, params: &mut [f32], velocity: &mut [f32], grads: &[f32]) {
        let n = params.len();
        assert!(
            velocity.len() == n && grads.len() == n,
            "parameters, velocity and gradients differ in length"
        );
        let (lr, momentum, weight_decay) = (self.lr as f32, self.momentum as f32, self.weight_decay as f32);
        for i in 0..n {
            let g = grads[i] + weight_decay * params[i];
            let v = momentum * velocity[i] + g;
            velocity[i] = v;
            params[i] -= lr * if self.nesterov { g + momentum * v } else { v };
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
            AdamW { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step }
                .apply(&mut p, &mut m, &mut v, grads);
        }
        assert_close(&p, &ADAMW_AFTER_TWO);
    }

    #[test]
    fn sgd_agrees_with_pytorch() {
        for (nesterov, expected) in [(false, SGD_AFTER_TWO), (true, NESTEROV_AFTER_TWO)] {
            let (mut p, mut v) = ([1.0, -2.0, 0.5], [0.0; 3]);
            for grads in &GRADS {
                Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov }.apply(&mut p, &mut v, grads);
            }
            assert_close(&p, &expected);
        }
    }
}
