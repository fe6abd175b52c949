//! ResNet-34 without its classifier, beside He et al. 2016: (B,3,H,W) f32 -> (B,512).

use candle_core::{D, Tensor};

use super::{batch_norm_eval, batch_norm_train, max_pool};
use crate::architecture::{self, BasicBlock, ConvNorm, MIN_IMAGE_SIZE};
use crate::{Error, Result, layout::BACKBONE_PREFIX};

/// How BatchNorm behaves, and where training leaves the new running statistics, as (name, value).
pub(super) enum Norm<'a> {
    Train(&'a mut Vec<(String, Tensor)>),
    Eval,
}

/// The network over a source of tensors by name.
pub(super) struct ResNet<F> {
    tensor: F,
}

impl<F: Fn(&str) -> Result<Tensor>> ResNet<F> {
    pub(super) fn new(tensor: F) -> Self {
        Self { tensor }
    }

    /// Images (B,3,H,W) -> embedding (B,512), global average pooling included.
    pub(super) fn forward(&self, images: &Tensor, norm: &mut Norm) -> Result<Tensor> {
        match images.dims() {
            &[_, 3, h, w] if h >= MIN_IMAGE_SIZE && w >= MIN_IMAGE_SIZE => {}
            found => return Err(Error::ImageShape { found: found.to_vec() }),
        }
        let mut x = max_pool(&self.conv_norm(&architecture::stem(), images, norm)?.relu()?)?;
        for block in architecture::blocks() {
            x = self.basic_block(&block, &x, norm)?;
        }
        Ok(x.flatten_from(2)?.mean(D::Minus1)?)
    }

    fn basic_block(&self, block: &BasicBlock, x: &Tensor, norm: &mut Norm) -> Result<Tensor> {
        let y = self.conv_norm(&block.conv1, x, norm)?.relu()?;
        let y = self.conv_norm(&block.conv2, &y, norm)?;
        let shortcut = match &block.downsample {
            Some(downsample) => self.conv_norm(downsample, x, norm)?,
            None => x.clone(),
        };
        Ok((y + shortcut)?.relu()?)
    }

    fn conv_norm(&self, layer: &ConvNorm, x: &Tensor, norm: &mut Norm) -> Result<Tensor> {
        let tensor = |owner: &str, name: &str| (self.tensor)(&format!("{BACKBONE_PREFIX}{owner}.{name}"));
        let x = x.conv2d(&tensor(&layer.conv, "weight")?, layer.padding(), layer.stride, 1, 1)?;
        let (weight, bias) = (tensor(&layer.norm, "weight")?, tensor(&layer.norm, "bias")?);
        let (mean, var) = (tensor(&layer.norm, "running_mean")?, tensor(&layer.norm, "running_var")?);
        match norm {
            Norm::Eval => batch_norm_eval(&x, &weight, &bias, &mean, &var),
            Norm::Train(updates) => {
                let (y, batch) = batch_norm_train(&x, &weight, &bias)?;
                let (mean, var) = batch.moved_from(&mean, &var)?;
                updates.push((format!("{BACKBONE_PREFIX}{}.running_mean", layer.norm), mean));
                updates.push((format!("{BACKBONE_PREFIX}{}.running_var", layer.norm), var));
                Ok(y)
            }
        }
    }
}
