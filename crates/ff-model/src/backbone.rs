//! One network, several executions: the contract that they share, and the one place that chooses.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::fast::Fast;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `ff_kernels`' plan of the whole backbone: on the CPU.
    #[default]
    Fast,
    /// Plain candle operations: slow, on every device.
    Reference,
}

/// Where and how a model computes.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Where tensors live.
    pub device: Device,
    /// Which execution runs the backbone.
    pub engine: Engine,
    /// Threads of the fast engine; candle's own follow `ff_kernels::process::limit_threads`.
    pub threads: usize,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Fast, Self::Reference];

    /// The name used on the command line and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Reference => "reference",
        }
    }
}

impl Compute {
    /// On the CPU, with as many threads as it has.
    pub fn cpu(engine: Engine) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { device: Device::Cpu, engine, threads }
    }

    /// A fresh execution.
    pub fn backbone(&self) -> Box<dyn Backbone> {
        match (self.engine, &self.device) {
            (Engine::Fast, Device::Cpu) => Box::new(Fast::new(self.threads)),
            (Engine::Fast, _) => {
                tracing::warn!("the fast engine runs on the CPU only so far: using the reference engine");
                Box::<Reference>::default()
            }
            (Engine::Reference, _) => Box::<Reference>::default(),
        }
    }
}
