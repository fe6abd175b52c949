//! Plain slices of contiguous f32 tensors in host memory: where kernels meet candle.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor};

use crate::Result;

/// Lets `read` see the values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// Another type, device or a layout with gaps; or what the closure returns.
pub fn with_slice<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return Err(not_plain(tensor)) };
    let Some((start, end)) = layout.contiguous_offsets() else { return Err(not_plain(tensor)) };
    read(&storage.as_slice::<f32>()?[start..end])
}

/// Lets `write` change the values of a contiguous f32 tensor on the CPU in place. Views of it see the change.
///
/// # Errors
/// Another type, device or a layout with gaps; or what the closure returns.
pub fn with_slice_mut<T>(tensor: &Tensor, write: impl FnOnce(&mut [f32]) -> Result<T>) -> Result<T> {
    let op = InPlace(RefCell::new(State::Waiting(write)));
    tensor.inplace_op1(&op)?;
    match op.0.into_inner() {
        State::Done(result) => result,
        State::Waiting(_) | State::Running => Err(not_plain(tensor)),
    }
}

fn not_plain(tensor: &Tensor) -> crate::Error {
    let (dtype, device, stride) = (tensor.dtype(), tensor.device().location(), tensor.stride());
    candle_core::Error::Msg(format!(
        "expected a contiguous f32 tensor on the CPU, found {dtype:?} on {device:?} with strides {stride:?}"
    ))
    .into()
}

/// Candle's way to a mutable slice is an in-place operation; this one runs a closure once.
struct InPlace<F, T>(RefCell<State<F, T>>);

enum State<F, T> {
    Waiting(F),
    Running,
    Done(Result<T>),
}

impl<T, F: FnOnce(&mut [f32]) -> Result<T>> InplaceOp1 for InPlace<F, T> {
    fn name(&self) -> &'static str {
        "with-slice-mut"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
            && let State::Waiting(write) = self.0.replace(State::Running)
        {
            self.0.replace(State::Done(write(&mut values[start..end])));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn slices_are_the_tensors_own_memory() {
        let tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let row = tensor.narrow(0, 1, 1).unwrap();
        let write = |values: &mut [f32]| {
            values.copy_from_slice(&[1.0, 2.0, 3.0]);
            Ok(())
        };
        with_slice_mut(&row, write).unwrap();
        assert_eq!(
            with_slice(&tensor, |values| Ok(values.to_vec())).unwrap(),
            [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]
        );
    }

    #[test]
    fn other_types_and_layouts_are_refused() {
        let tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        for bad in [tensor.t().unwrap(), tensor.to_dtype(DType::F64).unwrap()] {
            assert!(with_slice(&bad, |_| Ok(())).is_err());
            assert!(with_slice_mut(&bad, |_| Ok(())).is_err());
        }
    }
}
