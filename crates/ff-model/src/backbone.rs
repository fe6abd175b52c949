//! One network, several executions: the contract that they share, and the one place that chooses.

use candle_core::{Device, Tensor};
use ff_kernels::Bf16;
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
use crate::fast::Fast;
use crate::host::with_slice;
use crate::reference::Reference;
use crate::{Error, Images, Parameters, Precision, Result};

/// An execution of the backbone: images -> embedding (B,512) f32.
pub trait Backbone: Send {
    /// The embedding with BatchNorm on running statistics. Nothing is remembered.
    fn embed(&mut self, images: Images<'_>, parameters: &Parameters) -> Result<Tensor>;

    /// The embedding with BatchNorm on batch statistics. Moves the running statistics, and remembers what one
    /// [`Backbone::backward`] needs.
    fn forward_train(&mut self, images: Images<'_>, parameters: &mut Parameters) -> Result<Tensor> {
        let (embedding, statistics) = self.forward_train_collecting(images, parameters)?;
        parameters.move_statistics(&statistics)?;
        Ok(embedding)
    }

    /// As [`Backbone::forward_train`], but leaves the running statistics alone and gives those of the batch, which
    /// [`Parameters::move_statistics`] takes later.
    fn forward_train_collecting(
        &mut self,
        images: Images<'_>,
        parameters: &Parameters,
    ) -> Result<(Tensor, Vec<f64>)>;

    /// From dL/d(embedding) (B,512) of the last [`Backbone::forward_train`], writes dL/d(parameter) over the
    /// backbone's part of the flat `gradient` (N,).
    ///
    /// # Errors
    /// [`crate::Error::NoForward`] when no training pass is waiting: each permits one backward.
    fn backward(&mut self, grad_embedding: &Tensor, parameters: &Parameters, gradient: &Tensor)
    -> Result<()>;

    /// Where the parts begin in which [`Backbone::backward_in_parts`] gives the gradient away.
    fn part_begins(&self, _: &Parameters) -> Vec<usize> {
        vec![0]
    }

    /// As [`Backbone::backward`] on the host, over the backbone's part (N,) of the gradient, which it gives away in
    /// parts, from the last layers to the first, each as soon as it is final. An execution that does not know earlier
    /// gives all of it at the end.
    ///
    /// # Errors
    /// As [`Backbone::backward`].
    fn backward_in_parts<'g>(
        &mut self,
        grad_embedding: &Tensor,
        parameters: &Parameters,
        gradient: &'g mut [f32],
        done: &mut dyn FnMut(&'g mut [f32]),
    ) -> Result<()> {
        let whole = parameters.zero_gradient()?;
        self.backward(grad_embedding, parameters, &whole)?;
        with_slice(&whole, |whole| {
            gradient.copy_from_slice(&whole[parameters.layout().backbone()]);
            Ok(())
        })?;
        done(gradient);
        Ok(())
    }

    /// The GPU that it runs on by commands of its own.
    #[cfg(feature = "cuda")]
    fn gpu(&self) -> Option<&std::sync::Arc<ff_kernels::gpu::device::Gpu>> {
        None
    }
}

/// Which execution runs the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `ff_kernels`' plan of the whole backbone: on the CPU, and on CUDA.
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
    /// Threads of the fast engine; candle's own follow `ff_kernels::host::process::limit_threads`.
    pub threads: usize,
    /// What the backbone computes with.
    pub precision: Precision,
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
        Self { device: Device::Cpu, engine, threads, precision: Precision::F32 { tf32: false } }
    }

    /// A fresh execution.
    ///
    /// # Errors
    /// [`Error::Precision`] where neither device nor engine compute with it; on CUDA, what its driver or cuDNN say.
    pub fn backbone(&self) -> Result<Box<dyn Backbone>> {
        match (self.engine, &self.device) {
            #[cfg(feature = "cuda")]
            (Engine::Fast, Device::Cuda(device)) => Ok(Box::new(Cuda::new(device, self.precision)?)),
            (Engine::Fast, Device::Cpu)
                if self.precision == Precision::Bf16 && self.precision.runs_on_this_cpu() =>
            {
                Ok(Box::new(Fast::<Bf16>::new(self.threads)))
            }
            _ if self.precision != (Precision::F32 { tf32: false }) => Err(Error::Precision {
                precision: self.precision,
                engine: self.engine,
                device: if self.device.is_cuda() { "CUDA" } else { "the CPU" },
            }),
            (Engine::Fast, Device::Cpu) => Ok(Box::new(Fast::<f32>::new(self.threads))),
            _ => Ok(Box::<Reference>::default()),
        }
    }
}
