//! The reference execution: a ResNet in plain candle operations and candle's autograd.
//!
//! Slow, short and readable beside the paper; runs on every candle device, and every fast path is tested against it.

mod batch_norm;
mod max_pool;
mod resnet;

pub use batch_norm::{BatchStatistics, batch_norm_eval, batch_norm_train};
pub use max_pool::max_pool;

use candle_core::{Tensor, Var};

use crate::{Backbone, Error, Images, Parameters, Result};
use resnet::{Norm, ResNet};

/// The backbone through candle's autograd.
#[derive(Debug, Default)]
pub struct Reference {
    /// The last training pass: the backbone's variables in layout order, and the embedding computed from them.
    pass: Option<(Vec<Var>, Tensor)>,
}

impl Backbone for Reference {
    fn embed(&mut self, images: Images<'_>, parameters: &Parameters) -> Result<Tensor> {
        ResNet::new(parameters.architecture(), |name| parameters.get(name))
            .forward(images.planes()?, &mut Norm::Eval)
    }

    fn forward_train_collecting(
        &mut self,
        images: Images<'_>,
        parameters: &Parameters,
    ) -> Result<(Tensor, Vec<f64>)> {
        let images = images.planes()?;
        let mut variables = Vec::new();
        let end = parameters.layout().backbone().end;
        for entry in parameters.layout().entries().iter().take_while(|e| e.offset < end) {
            variables.push(Var::from_tensor(&parameters.get(&entry.name)?)?);
        }
        let mut of_batch = Vec::new();
        let embedding = {
            let lookup = |name: &str| match parameters.layout().entries().iter().position(|e| e.name == name)
            {
                Some(i) => Ok(variables[i].as_tensor().clone()),
                None => parameters.get(name),
            };
            ResNet::new(parameters.architecture(), lookup).forward(images, &mut Norm::Train(&mut of_batch))?
        };
        let layout = parameters.statistics_layout();
        let mut statistics = vec![0.0; layout.len()];
        for (name, values) in of_batch {
            let entry = layout.get(&name).ok_or(Error::UnknownTensor { name })?;
            let places = statistics[entry.offset..].iter_mut();
            places.zip(values.to_vec1::<f32>()?).for_each(|(place, value)| *place = f64::from(value));
        }
        let detached = embedding.detach();
        self.pass = Some((variables, embedding));
        Ok((detached, statistics))
    }

    fn backward(
        &mut self,
        grad_embedding: &Tensor,
        parameters: &Parameters,
        gradient: &Tensor,
    ) -> Result<()> {
        let (variables, embedding) = self.pass.take().ok_or(Error::NoForward)?;
        // The vector-Jacobian product is the gradient of <embedding, grad_embedding>.
        let grads = (embedding * grad_embedding)?.sum_all()?.backward()?;
        for (entry, variable) in parameters.layout().entries().iter().zip(&variables) {
            let grad = match grads.get(variable) {
                Some(grad) => grad.flatten_all()?.contiguous()?,
                None => Tensor::zeros(entry.len(), variable.dtype(), variable.device())?,
            };
            gradient.slice_set(&grad, 0, entry.offset)?;
        }
        Ok(())
    }
}
