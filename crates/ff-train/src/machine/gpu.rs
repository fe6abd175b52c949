//! A GPU as the driver describes it.

use ff_kernels::gpu::device;
use ff_model::DeviceSpec;

use super::Gpu;
use crate::Result;

/// Looks at the GPU that `device` names; `None` for the CPU.
///
/// # Errors
/// There is none; its driver refuses.
pub fn gpu(device: DeviceSpec) -> Result<Option<Gpu>> {
    let DeviceSpec::Cuda(ordinal) = device else { return Ok(None) };
    let name = device::Gpu::look(ordinal)?.name;
    let stream = device.open()?.as_cuda_device()?.cuda_stream();
    let (free, total) = stream.context().mem_get_info().map_err(|e| candle_core::Error::Cuda(Box::new(e)))?;
    Ok(Some(Gpu { name, free, total }))
}
