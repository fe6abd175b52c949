//! Sharpness-aware steps: the gradient where the loss is about highest nearby.
//!
//! The first gradient says in which direction that is: the weights move by `rho` along it, the step's batches pass once
//! more, with the same mixes and dropout masks, and the weights move back (Foret et al., "Sharpness-aware minimization for
//! efficiently improving generalization", ICLR 2021; norm over all parameters, as in the authors' code). The direction
//! is that of the whole step's gradient, on whatever rank its batches were, so that any number of ranks comes to the same.
//! Figures and BatchNorm's statistics are the first pass's.

use candle_core::Tensor;
use ff_model::host::{with_slice, with_slice_mut};

use super::gathered::Gathered;
use super::passes::ReadyBatch;
use super::{Learner, StepPosition};
use crate::Result;
use crate::optim::gradient_norm;
use crate::ranks::Ranks;
use crate::records::Seconds;

/// Keeps a gradient of zeros from being divided by its length.
const EPS: f64 = 1e-12;

impl Learner {
    /// The sum (N,) of all ranks' gradients of a step at the weights moved along `gradient`, of which `mean` times is the
    /// step's. `batches` are this rank's. The weights come back as they were.
    pub(super) fn sharpness_aware(
        &mut self,
        ranks: &mut dyn Ranks,
        at: StepPosition,
        (gradient, mean): (&Tensor, f64),
        batches: &[ReadyBatch],
        seconds: &mut Seconds,
    ) -> Result<Tensor> {
        let norm = gradient_norm(gradient)? * mean;
        if !norm.is_finite() {
            // For whoever measures the gradient to see.
            return Ok(gradient.clone());
        }
        let before = self.model.parameters().values().copy()?;
        let scale = (self.config.optimizer.sam_rho * mean / (norm + EPS)) as f32;
        self.model.parameters_mut().update(|values, _| {
            with_slice_mut(values, |values| {
                with_slice(gradient, |gradient| {
                    values.iter_mut().zip(gradient).for_each(|(value, g)| *value += scale * g);
                    Ok(())
                })
            })
        })?;
        let mut again = batches.iter();
        let mut next = |learner: &mut Self, step: &mut Gathered, seconds: &mut Seconds| {
            again.next().map(|batch| learner.forward(batch, step, seconds)).transpose()
        };
        let summed = self.sum_gradients(ranks, at, &mut next, seconds);
        self.model.parameters_mut().update(|values, _| values.slice_set(&before, 0, 0))?;
        Ok(summed?.1)
    }
}
