//! Tensors of the files inside this crate, as f32 whatever they are stored as.

use half::f16;
use safetensors::{Dtype, SafeTensors};

/// The values of a tensor, which must have this shape.
pub(crate) fn floats(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).map_err(|error| format!("{name}: {error}"))?;
    if tensor.shape() != shape {
        return Err(format!("{name}: expected {shape:?}, found {:?}", tensor.shape()));
    }
    let data = tensor.data();
    let values = match tensor.dtype() {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::U16 => data.chunks_exact(2).map(|b| f32::from(u16::from_le_bytes([b[0], b[1]]))).collect(),
        Dtype::I8 => data.iter().map(|&b| f32::from(b as i8)).collect(),
        Dtype::U8 => data.iter().map(|&b| f32::from(b)).collect(),
        other => return Err(format!("{name}: expected numbers of up to 32 bits, found {other:?}")),
    };
    Ok(values)
}
