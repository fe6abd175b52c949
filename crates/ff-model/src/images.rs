//! What a batch of images may be when it reaches the network.

use candle_core::Tensor;
use ff_kernels::network::MIN_IMAGE_SIZE;

use crate::{Error, Result};

/// A batch of images.
#[derive(Clone, Copy)]
pub enum Images<'a> {
    /// Normalised planes (B,3,H,W) f32, where the model computes.
    Planes(&'a Tensor),
    /// Decoded pixels on the GPU, with what is to be done to each image.
    #[cfg(feature = "cuda")]
    Uploaded(&'a ff_kernels::gpu::device::Uploaded),
}

impl<'a> Images<'a> {
    /// How many images there are.
    ///
    /// # Errors
    /// Planes without a dimension.
    pub fn batch(self) -> Result<usize> {
        match self {
            Self::Planes(planes) => Ok(planes.dim(0)?),
            #[cfg(feature = "cuda")]
            Self::Uploaded(uploaded) => Ok(uploaded.shape()[0]),
        }
    }

    /// The planes.
    ///
    /// # Errors
    /// [`crate::Error::NotPlanes`]: pixels on the GPU become planes in the fast engine only.
    pub fn planes(self) -> Result<&'a Tensor> {
        match self {
            Self::Planes(planes) => Ok(planes),
            #[cfg(feature = "cuda")]
            Self::Uploaded(_) => Err(Error::NotPlanes),
        }
    }
}

impl<'a> From<&'a Tensor> for Images<'a> {
    fn from(planes: &'a Tensor) -> Self {
        Self::Planes(planes)
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<&'a ff_kernels::gpu::device::Uploaded> for Images<'a> {
    fn from(uploaded: &'a ff_kernels::gpu::device::Uploaded) -> Self {
        Self::Uploaded(uploaded)
    }
}

/// (B,3,H,W) of images that can go through the network.
///
/// # Errors
/// [`Error::ImageShape`] for others.
pub(crate) fn checked_shape(dims: &[usize]) -> Result<[usize; 4]> {
    match dims {
        &[b, 3, h, w] if b > 0 && h.min(w) >= MIN_IMAGE_SIZE => Ok([b, 3, h, w]),
        found => Err(Error::ImageShape { found: found.to_vec() }),
    }
}
