//! What a step must know of its gradient before it follows it: norm, losses, whether all is finite.
//!
//! On the CPU that is known at once. On a GPU it is computed there and used there; the host may ask for it later.

use crate::Result;
use crate::loss::LossValues;

/// A gradient that was measured, for one [`Optimizer::step`](super::Optimizer::step).
pub struct Measured {
    /// Factor on the gradient, clipping included. Where a GPU measures, it has a factor of its own.
    pub(super) factor: f64,
    state: State,
}

enum State {
    Known(Measures),
    #[cfg(feature = "cuda")]
    OnItsWay {
        readback: ff_kernels::gpu::device::Readback,
        n_losses: usize,
    },
}

/// The figures of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// The gradient's l2 norm, before clipping.
    pub grad_norm: f64,
    /// The losses that it is of.
    pub losses: LossValues,
    /// Whether all of them are finite. If not, the step moves nothing.
    pub finite: bool,
}

impl Measured {
    pub(super) fn known(factor: f64, measures: Measures) -> Self {
        Self { factor, state: State::Known(measures) }
    }

    #[cfg(feature = "cuda")]
    pub(super) fn on_its_way(readback: ff_kernels::gpu::device::Readback, n_losses: usize) -> Self {
        Self { factor: 1.0, state: State::OnItsWay { readback, n_losses } }
    }

    /// The figures, if nobody has to wait for them.
    pub fn now(&self) -> Option<&Measures> {
        match &self.state {
            State::Known(measures) => Some(measures),
            #[cfg(feature = "cuda")]
            State::OnItsWay { .. } => None,
        }
    }

    /// The figures, when the device has come this far.
    ///
    /// # Errors
    /// Something before them failed on the device.
    pub fn wait(&mut self) -> Result<Measures> {
        match &mut self.state {
            State::Known(measures) => Ok(measures.clone()),
            #[cfg(feature = "cuda")]
            State::OnItsWay { readback, n_losses } => read(readback, *n_losses),
        }
    }

    /// What the figures came back in, to be used again.
    #[cfg(feature = "cuda")]
    pub(super) fn into_readback(self) -> Option<ff_kernels::gpu::device::Readback> {
        match self.state {
            State::Known(_) => None,
            State::OnItsWay { readback, .. } => Some(readback),
        }
    }
}

/// The figures that a readback brings.
#[cfg(feature = "cuda")]
fn read(readback: &mut ff_kernels::gpu::device::Readback, n_losses: usize) -> Result<Measures> {
    use ff_kernels::gpu::program::update::Scalars;

    let Scalars { grad_norm, finite, losses, .. } = Scalars::read(readback.wait()?);
    let losses = LossValues::new(losses.into_iter().take(n_losses).map(f64::from));
    Ok(Measures { grad_norm: f64::from(grad_norm), losses, finite: finite != 0 })
}
