//! `[optimizer]`: which optimiser, at which rates.

use serde::{Deserialize, Serialize};

/// `[optimizer]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which optimiser.
    pub kind: OptimizerKind,
    /// Learning rate.
    pub lr: f64,
    /// Factor on the learning rate of projection and heads.
    pub head_lr: f64,
    /// Factor on the learning rate while the backbone is frozen by `model.freeze_epochs`, which makes these epochs a
    /// stage of their own at a constant rate: the schedule begins when everything learns. Heads first, then all, is
    /// LP-FT (Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR
    /// 2022).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_lr: Option<f64>,
    /// Factor on the learning rate from one residual block to the one before it, towards the image (layer-wise
    /// decay, as in Bao et al., "BEiT", ICLR 2022); 1 is none.
    pub layer_decay: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// What decays.
    pub decay: DecayScope,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's addition to the root of the second moment.
    pub eps: f64,
    /// SGD's decay of the velocity.
    pub momentum: f64,
    /// Whether SGD looks ahead.
    pub nesterov: bool,
    /// Longest l2 norm of the whole gradient; longer ones are shortened to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Radius of sharpness-aware steps: the gradient is taken where the loss is about highest within this distance
    /// (Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021), which costs
    /// a second pass over the step's batches; 0 is none.
    #[serde(default)]
    pub sam_rho: f64,
    /// Batches whose mean gradient makes a step.
    pub accumulate: usize,
    /// Decay of the weights' moving average, which is then evaluated and saved beside the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// The first of the epochs whose last weights are averaged, all alike (Izmailov et al., "Averaging weights leads to
    /// wider optima and better generalization", UAI 2018); the average is evaluated and saved beside the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa_from: Option<u64>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            lr: 1e-4,
            head_lr: 1.0,
            frozen_lr: None,
            layer_decay: 1.0,
            weight_decay: 1e-2,
            decay: DecayScope::Weights,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            momentum: 0.9,
            nesterov: false,
            clip_norm: None,
            sam_rho: 0.0,
            accumulate: 1,
            ema_decay: None,
            swa_from: None,
        }
    }
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecayScope {
    /// Weights of convolutions and linear layers; not norms and biases.
    Weights,
    /// Everything, as PyTorch does when it is given no groups.
    All,
}
