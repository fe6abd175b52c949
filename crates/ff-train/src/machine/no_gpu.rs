//! In place of `gpu.rs` in a build without CUDA.

use ff_model::DeviceSpec;

use super::Gpu;
use crate::Result;

/// None, or why there is none.
///
/// # Errors
/// `device` is a GPU: the message says how to build for it.
pub fn gpu(device: DeviceSpec) -> Result<Option<Gpu>> {
    device.open()?;
    Ok(None)
}
