//! From the loader's memory to tensors on the model's device.

use candle_core::{Device, Tensor};
use ff_data::Batch;

use crate::Result;

/// A batch's images (B,3,H,W) f32.
pub fn images(batch: &Batch, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_slice(batch.planes(), &batch.shape, device)?)
}

/// A batch's class ids (B,) u32, one tensor a task.
pub fn targets(batch: &Batch, device: &Device) -> Result<Vec<Tensor>> {
    batch.targets.values().map(|ids| Ok(Tensor::new(ids.as_slice(), device)?)).collect()
}
