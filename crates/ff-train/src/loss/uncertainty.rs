//! Task weights that are learnt: homoscedastic uncertainty.
//!
//! Kendall, Gal and Cipolla ("Multi-task learning using uncertainty to weigh losses", CVPR 2018): the total is
//! `sum of exp(-s) L + s / 2` with a learnt log variance `s` a task. A number a task needs no tensors: their gradient
//! is known, and they move by Adam in f64.

use ff_core::{PerTask, Schema};
use serde::{Deserialize, Serialize};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// Learnt log variances, and Adam's state for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncertainty {
    log_variance: PerTask<f64>,
    first_moment: PerTask<f64>,
    second_moment: PerTask<f64>,
    steps: u64,
}

impl Uncertainty {
    /// Every task weighs 1.
    pub fn new(schema: &Schema) -> Self {
        let zeros = schema.per_task(|_| 0.0);
        Self { log_variance: zeros.clone(), first_moment: zeros.clone(), second_moment: zeros, steps: 0 }
    }

    /// The factor on each task's loss, `exp(-s)`.
    pub fn weights(&self) -> PerTask<f64> {
        self.log_variance.each(|_, s| (-s).exp())
    }

    /// What keeps the variances from growing: `sum of s / 2`.
    pub fn penalty(&self) -> f64 {
        self.log_variance.values().map(|s| s / 2.0).sum()
    }

    /// One Adam step (Kingma and Ba 2015) of every `s` along `1/2 - exp(-s) L`; losses in the order of the tasks.
    pub fn step(&mut self, losses: &[f64], lr: f64) {
        self.steps += 1;
        let correct = |moment: f64, beta: f64| moment / (1.0 - beta.powf(self.steps as f64));
        let moments = self.first_moment.values_mut().zip(self.second_moment.values_mut());
        for ((s, (first, second)), loss) in self.log_variance.values_mut().zip(moments).zip(losses) {
            let gradient = 0.5 - (-*s).exp() * loss;
            *first = BETA1 * *first + (1.0 - BETA1) * gradient;
            *second = BETA2 * *second + (1.0 - BETA2) * gradient * gradient;
            *s -= lr * correct(*first, BETA1) / (correct(*second, BETA2).sqrt() + EPS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `tests/losses_golden.py`, `torch.optim.Adam` on the same losses.
    #[test]
    fn variances_move_as_in_pytorch() {
        let mut learnt = Uncertainty::new(&Schema::fairface());
        for losses in [[2.0, 0.6, 0.4], [1.5, 0.3, 0.7]] {
            learnt.step(&losses, 0.1);
        }
        let expected = [0.195_105_414_4, 0.058_669_114_9, -0.053_094_221_6];
        for (s, expected) in learnt.log_variance.values().zip(expected) {
            assert!((s - expected).abs() < 1e-8, "{s} vs {expected}");
        }
    }

    #[test]
    fn at_rest_a_weighted_loss_is_one_half() {
        let mut learnt = Uncertainty::new(&Schema::fairface());
        let losses = [2.0, 0.5, 0.1];
        (0..4000).for_each(|_| learnt.step(&losses, 0.01));
        for ((task, weight), loss) in learnt.weights().iter().zip(losses) {
            assert!((weight * loss - 0.5).abs() < 1e-3, "{task}: {}", weight * loss);
        }
    }
}
