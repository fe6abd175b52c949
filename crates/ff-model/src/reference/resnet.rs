//! A ResNet without its classifier, beside He et al. 2016: (B,3,H,W) f32 -> (B,512).

use candle_core::{D, Tensor};
use ff_kernels::network::{BasicBlock, ConvNorm, Layout};

use super::{BatchStatistics, batch_norm_eval, batch_norm_train, max_pool};
use crate::images::checked_shape;
use crate::layout::BACKBONE_PREFIX;
use crate::{Architecture, Result};

/// How BatchNorm behaves, and where training leaves the batch's statistics, each under the name of the running one.
pub(super) enum Norm<'a> {
    Train(&'a mut Vec<(String, Tensor)>),
    Eval,
}

/// The network over a source of tensors by name.
pub(super) struct ResNet<F> {
    layout: Layout,
    tensor: F,
}

impl<F: Fn(&str) -> Result<Tensor>> ResNet<F> {
    pub(super) fn new(architecture: Architecture, tensor: F) -> Self {
        Self { layout: architecture.layout(), tensor }
    }

    /// Images (B,3,H,W) -> embedding (B,512), global average pooling included.
    pub(super) fn forward(&self, images: &Tensor, norm: &mut Norm) -> Result<Tensor> {
        checked_shape(images.dims())?;
        let mut x = max_pool(&self.conv_norm(&self.layout.stem, images, norm)?.relu()?)?;
        for block in &self.layout.blocks {
            x = self.basic_block(block, &x, norm)?;
        }
        Ok(x.flatten_from(2)?.mean(D::Minus1)?)
    }

    fn basic_block(&self, block: &BasicBlock, x: &Tensor, norm: &mut Norm) -> Result<Tensor> {
        let y = self.conv_norm(&block.first, x, norm)?.relu()?;
        let y = self.conv_norm(&block.second, &y, norm)?;
        let shortcut = match &block.downsample {
            Some(downsample) => self.conv_norm(downsample, x, norm)?,
            None => x.clone(),
        };
        Ok((y + shortcut)?.relu()?)
    }

    fn conv_norm(&self, layer: &ConvNorm, x: &Tensor, mode: &mut Norm) -> Result<Tensor> {
        let ConvNorm { conv, norm } = layer;
        let tensor = |owner: &str, name: &str| (self.tensor)(&format!("{BACKBONE_PREFIX}{owner}.{name}"));
        let x = x.conv2d(&tensor(&conv.name, "weight")?, conv.padding(), conv.stride, 1, 1)?;
        let (weight, bias) = (tensor(&norm.name, "weight")?, tensor(&norm.name, "bias")?);
        match mode {
            Norm::Eval => {
                let (mean, var) = (tensor(&norm.name, "running_mean")?, tensor(&norm.name, "running_var")?);
                batch_norm_eval(&x, &weight, &bias, &mean, &var)
            }
            Norm::Train(statistics) => {
                let (y, BatchStatistics { mean, var }) = batch_norm_train(&x, &weight, &bias)?;
                statistics.push((format!("{BACKBONE_PREFIX}{}.running_mean", norm.name), mean));
                statistics.push((format!("{BACKBONE_PREFIX}{}.running_var", norm.name), var));
                Ok(y)
            }
        }
    }
}
