//! The fast execution on the CPU: the whole backbone as one plan of `ff_kernels::cpu::plan` over the flat parameters.
//!
//! A plan is made for the first batch, and again when a batch is larger or of another size; smaller ones use the plan
//! at hand. Between steps nothing is allocated but the embedding. The heads stay candle's.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use ff_kernels::cpu::plan::Plan;
use ff_kernels::network::{Layout, Mode};
use ff_kernels::{Element, ThreadPool};

use crate::host::{with_slice, with_slice_mut};
use crate::images::checked_shape;
use crate::{Architecture, Backbone, Error, Images, Parameters, Result};

/// The backbone on `ff_kernels`, its activations `E`.
pub struct Fast<E: Element> {
    pool: Arc<ThreadPool>,
    train: Option<Planned<E>>,
    infer: Option<Planned<E>>,
    /// The version of the parameters that the inference plan's folded weights come from.
    folded: Option<u64>,
    waiting: bool,
}

/// A plan, and the backbone and images (B,3,H,W) that it was made for.
struct Planned<E: Element> {
    plan: Plan<E>,
    architecture: Architecture,
    images: [usize; 4],
}

impl<E: Element> Fast<E> {
    /// An execution on `threads` threads.
    pub fn new(threads: usize) -> Self {
        let pool = Arc::new(ThreadPool::new(threads));
        Self { pool, train: None, infer: None, folded: None, waiting: false }
    }
}

impl<E: Element> Backbone for Fast<E> {
    fn embed(&mut self, images: Images<'_>, parameters: &Parameters) -> Result<Tensor> {
        let images = images.planes()?;
        let shape = checked_shape(images.dims())?;
        let architecture = parameters.architecture();
        let (plan, new) = plan_for(&mut self.infer, &self.pool, architecture, shape, Mode::Infer);
        if new || self.folded != Some(parameters.version()) {
            plan.invalidate_weights();
            self.folded = Some(parameters.version());
        }
        let embedding_shape = (shape[0], architecture.embedding_len());
        let mut embedding = vec![0.0; embedding_shape.0 * embedding_shape.1];
        let backbone = parameters.layout().backbone();
        with_slice(parameters.values(), |values| {
            with_slice(parameters.statistics(), |statistics| {
                with_slice(&images.contiguous()?, |images| {
                    plan.forward_eval(&values[backbone], statistics, images, &mut embedding);
                    Ok(())
                })
            })
        })?;
        Ok(Tensor::from_vec(embedding, embedding_shape, &Device::Cpu)?)
    }

    fn forward_train_collecting(
        &mut self,
        images: Images<'_>,
        parameters: &Parameters,
    ) -> Result<(Tensor, Vec<f64>)> {
        let images = images.planes()?;
        let shape = checked_shape(images.dims())?;
        let architecture = parameters.architecture();
        let (plan, _) = plan_for(&mut self.train, &self.pool, architecture, shape, Mode::Train);
        let embedding_shape = (shape[0], architecture.embedding_len());
        let mut embedding = vec![0.0; embedding_shape.0 * embedding_shape.1];
        let backbone = parameters.layout().backbone();
        let statistics = with_slice(parameters.values(), |values| {
            with_slice(&images.contiguous()?, |images| {
                Ok(plan.forward_train_collecting(&values[backbone], images, &mut embedding).to_vec())
            })
        })?;
        self.waiting = true;
        Ok((Tensor::from_vec(embedding, embedding_shape, &Device::Cpu)?, statistics))
    }

    fn backward(
        &mut self,
        grad_embedding: &Tensor,
        parameters: &Parameters,
        gradient: &Tensor,
    ) -> Result<()> {
        let backbone = parameters.layout().backbone();
        with_slice_mut(gradient, |gradient| {
            self.backward_in_parts(grad_embedding, parameters, &mut gradient[backbone], &mut |_| {})
        })
    }

    fn part_begins(&self, parameters: &Parameters) -> Vec<usize> {
        Layout::new(&parameters.architecture().config()).part_begins()
    }

    fn backward_in_parts<'g>(
        &mut self,
        grad_embedding: &Tensor,
        parameters: &Parameters,
        gradient: &'g mut [f32],
        done: &mut dyn FnMut(&'g mut [f32]),
    ) -> Result<()> {
        let Some(Planned { plan, .. }) = self.train.as_mut().filter(|_| std::mem::take(&mut self.waiting))
        else {
            return Err(Error::NoForward);
        };
        let backbone = parameters.layout().backbone();
        with_slice(parameters.values(), |values| {
            with_slice(&grad_embedding.contiguous()?, |grad_embedding| {
                plan.backward_in_parts(&values[backbone], grad_embedding, gradient, done);
                Ok(())
            })
        })
    }
}

/// The plan at hand if it serves these images, else a new one; and whether it is new.
fn plan_for<'a, E: Element>(
    planned: &'a mut Option<Planned<E>>,
    pool: &Arc<ThreadPool>,
    architecture: Architecture,
    images: [usize; 4],
    mode: Mode,
) -> (&'a mut Plan<E>, bool) {
    let [b, _, h, w] = images;
    let serves = planned
        .as_ref()
        .is_some_and(|p| p.architecture == architecture && p.images[0] >= b && p.images[2..] == images[2..]);
    if !serves {
        // The old plan's memory goes first.
        *planned = None;
        let plan = Plan::new(&architecture.config(), b, h, w, Arc::clone(pool), mode);
        *planned = Some(Planned { plan, architecture, images });
    }
    (&mut planned.as_mut().expect("just made").plan, !serves)
}
