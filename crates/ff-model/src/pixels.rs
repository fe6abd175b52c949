//! From an image's pixels to what the network takes.

use candle_core::{DType, Device, Tensor};
use ff_kernels::image::{IMAGENET_MEAN, IMAGENET_STD};

use crate::Result;

/// RGB pixels (H,W,3) u8, row by row -> (1,3,H,W) f32, normalised as in training: `(x / 255 - mean) / std`.
///
/// Models are trained on 224 x 224. `Tensor::cat` makes a batch of several.
///
/// # Errors
/// There are not `height * width * 3` bytes.
pub fn image_tensor(rgb: &[u8], (height, width): (usize, usize), device: &Device) -> Result<Tensor> {
    let per_channel = |values: [f32; 3]| Tensor::new(&values, device)?.reshape((1, 3, 1, 1));
    let pixels = Tensor::from_slice(rgb, (1, height, width, 3), device)?;
    let planes = (pixels.permute((0, 3, 1, 2))?.to_dtype(DType::F32)? / 255.0)?;
    let centred = planes.broadcast_sub(&per_channel(IMAGENET_MEAN)?)?;
    Ok(centred.broadcast_div(&per_channel(IMAGENET_STD)?)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_planes_and_are_normalised() {
        let image = image_tensor(&[0, 51, 255, 255, 0, 0], (1, 2), &Device::Cpu).unwrap();
        assert_eq!(image.dims(), [1, 3, 1, 2]);
        let values: Vec<f32> = image.flatten_all().unwrap().to_vec1().unwrap();
        // (0 and 1 - 0.485) / 0.229, (0.2 and 0 - 0.456) / 0.224, (1 and 0 - 0.406) / 0.225.
        for (value, expected) in values.iter().zip([-2.1179, 2.2489, -1.1429, -2.0357, 2.64, -1.8044]) {
            assert!((value - expected).abs() < 1e-4, "{values:?}");
        }
        assert!(image_tensor(&[0; 5], (1, 2), &Device::Cpu).is_err());
    }
}
