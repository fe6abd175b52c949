//! One network, several executions: the contract that they share, and the one place that chooses.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::reference::Reference;
use crate::{Parameters, Result};

/// An execution of the backbone: images (B,3,H,W) f32 -> embedding (B,512) f32.
pub trait Backbone: Send {
    /// The embedding with BatchNorm on running statistics. Nothing is remembered.
    fn embed(&mut self, images: &Tensor, parameters: &Parameters) -> Result<Tensor>;

    /// The embedding with BatchNorm on batch statistics. Moves the running statistics, and remembers what one
    /// [`Backbone::backward`] needs.
    fn forward_train(&mut self, images: &Tensor, parameters: &mut Parameters) -> Result<Tensor>;

    /// From dL/d(embedding) (B,512) of the last [`Backbone::forward_train`], writes dL/d(parameter) over the
    /// backbone's part of the flat `gradient` (N,).
    ///
    /// # Errors
    /// [`crate::Error::NoForward`] when no training pass is waiting: each permits one backward.
    fn backward(&mut self, grad_embedding: &Tensor, parameters: &Parameters, gradient: &Tensor)
    -> Result<()>;
}

/// Which execution runs the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(Default)]
pub enum Engine {
    /// Plain candle operations: slow, on every device.
    #[default]
    Reference,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 1] = [Self::Reference];

    /// The name used on the command line and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
        }
    }

    /// A fresh execution.
    pub fn build(self) -> Box<dyn Backbone> {
        match self {
            Self::Reference => Box::<Reference>::default(),
        }
    }
}
