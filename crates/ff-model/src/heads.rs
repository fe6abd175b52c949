//! What follows the embedding: the shared projection, dropout, and one linear head a task.
//!
//! `z = dropout(relu(shared.0(embedding)))`, `logits[t] = t_head(z)`; plain candle, as it is under a thousandth of
//! the work. Dropout masks are a function of (seed, step): the caller says which.

use candle_core::{Device, Tensor};
use ff_core::random::{Purpose, generator, unit};
use serde::{Deserialize, Serialize};

use crate::Result;

/// One task to predict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSpec {
    /// The task's name, as `age`.
    pub task: String,
    /// Number of classes.
    pub classes: usize,
}

impl HeadSpec {
    /// A head for `task` with `classes` outputs.
    pub fn new(task: impl Into<String>, classes: usize) -> Self {
        Self { task: task.into(), classes }
    }

    /// Prefix of its tensors' names, as `age_head`.
    pub fn prefix(&self) -> String {
        format!("{}_head", self.task)
    }
}

/// Inverted dropout (Srivastava et al. 2014, as `torch.nn.Dropout`): drops with probability `rate`, scales the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of dropping an element, in [0, 1).
    pub rate: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Which training batch of the run the mask is for, from 1: the step, where a step is one batch.
    pub step: u64,
}

impl Dropout {
    /// A factor for each element of a (batch, width) tensor: 0 or `1 / (1 - rate)`; `None` where nothing is dropped.
    pub fn mask(self, (batch, width): (usize, usize), device: &Device) -> Result<Option<Tensor>> {
        if self.rate <= 0.0 {
            return Ok(None);
        }
        let mut rng = generator(Purpose::Dropout, self.seed, 0, self.step);
        let scale = 1.0 / (1.0 - self.rate);
        let mask: Vec<f32> =
            (0..batch * width).map(|_| if unit(&mut rng) < self.rate { 0.0 } else { scale }).collect();
        Ok(Some(Tensor::from_vec(mask, (batch, width), device)?))
    }
}

/// Embedding (B,512) -> logits (B, classes) for each head in order, with tensors from `tensor` by name. `mask` (B,512)
/// is [`Dropout::mask`]'s.
pub fn logits(
    embedding: &Tensor,
    heads: &[HeadSpec],
    mask: Option<&Tensor>,
    tensor: impl Fn(&str) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let linear = |x: &Tensor, name: &str| -> Result<Tensor> {
        let weight = tensor(&format!("{name}.weight"))?;
        Ok(x.matmul(&weight.t()?)?.broadcast_add(&tensor(&format!("{name}.bias"))?)?)
    };
    let mut z = linear(embedding, "shared.0")?.relu()?;
    if let Some(mask) = mask {
        z = (&z * mask)?;
    }
    heads.iter().map(|head| linear(&z, &head.prefix())).collect()
}
