//! Weights in 8 bits: a quarter of the bytes, for files that travel.
//!
//! The format is safetensors. The weight of a convolution or linear layer is an `I8` tensor of the usual name and
//! shape, (out, ...), with values from -127 to 127; beside it stands `NAME.scale`, `F32` (out,), finite and above 0; a
//! weight is value x scale of its output channel. A scale is the channel's largest magnitude / 127, so no weight is off
//! by more than half of it: symmetric quantisation by channel, as in Krishnamoorthi, "Quantizing deep convolutional
//! networks for efficient inference", 2018, section 3.1.2. The weights of stem and first stage, 1 % of all, are `F16`:
//! their errors travel through all that follows, and in 8 bits they made half of the embedding's. All else (norms,
//! statistics, biases) is `F32` as always. Reading gives f32 tensors, so nothing that uses weights knows of it.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, View};

use crate::layout::BACKBONE_PREFIX;

/// The largest value: -128 is not used, so that zero is in the middle.
const MAX: f32 = 127.0;

/// What stands behind a tensor's name in that of its scales.
pub(super) const SCALE: &str = ".scale";

/// The type of 8-bit values in a file.
pub(super) const DTYPE: Dtype = Dtype::I8;

/// A tensor as a file has it.
pub(super) enum Stored {
    /// In its own type.
    Whole(Tensor),
    /// 8-bit values.
    Codes { shape: Vec<usize>, values: Vec<u8> },
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        match self {
            Stored::Whole(tensor) => View::dtype(tensor),
            Stored::Codes { .. } => DTYPE,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Stored::Whole(tensor) => tensor.dims(),
            Stored::Codes { shape, .. } => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Stored::Whole(tensor) => View::data(tensor),
            Stored::Codes { values, .. } => Cow::Borrowed(values),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Stored::Whole(tensor) => tensor.data_len(),
            Stored::Codes { values, .. } => values.len(),
        }
    }
}

/// Whether a backbone's convolution is kept in 16 bits, by its name without prefix.
fn is_early(name: &str) -> bool {
    name.starts_with("conv1.") || name.starts_with("layer1.")
}

/// A model's tensor as the tensors that a file has for it.
pub(super) fn store(name: String, tensor: Tensor) -> candle_core::Result<Vec<(String, Stored)>> {
    if tensor.rank() < 2 {
        return Ok(vec![(name, Stored::Whole(tensor))]);
    }
    if is_early(name.strip_prefix(BACKBONE_PREFIX).unwrap_or(&name)) {
        return Ok(vec![(name, Stored::Whole(tensor.to_dtype(DType::F16)?))]);
    }
    let (scale_name, [codes, scales]) = (format!("{name}{SCALE}"), quantise(&tensor)?);
    Ok(vec![(name, codes), (scale_name, scales)])
}

/// A weight (out, ...) f32 as 8-bit values, and their scales (out,).
fn quantise(weight: &Tensor) -> candle_core::Result<[Stored; 2]> {
    let weights: Vec<f32> = weight.flatten_all()?.to_vec1()?;
    let channels = weight.dim(0)?.max(1);
    let (mut values, mut scales) = (Vec::with_capacity(weights.len()), Vec::with_capacity(channels));
    for channel in weights.chunks_exact((weights.len() / channels).max(1)) {
        let largest = channel.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        // A channel of zeros, or of what is all but zero, has any scale.
        let scale = (largest / MAX).max(f32::MIN_POSITIVE);
        values.extend(channel.iter().map(|weight| (weight / scale).round().clamp(-MAX, MAX) as i8 as u8));
        scales.push(scale);
    }
    let codes = Stored::Codes { shape: weight.dims().to_vec(), values };
    Ok([codes, Stored::Whole(Tensor::new(scales, &Device::Cpu)?)])
}

/// The weight (out, ...) f32 that 8-bit values and their scales stand for.
///
/// # Errors
/// Scales that do not belong to it, values that are none.
pub(super) fn dequantise(codes: &[u8], shape: &[usize], scales: Option<&Tensor>) -> Result<Tensor, String> {
    let channels =
        *shape.first().ok_or("expected 8-bit values of one output channel or more, found a scalar")?;
    let scales =
        scales.ok_or_else(|| format!("expected scales of its {channels} output channels beside it"))?;
    if scales.dims() != [channels] || scales.dtype() != DType::F32 {
        let (dims, dtype) = (scales.dims(), scales.dtype());
        return Err(format!("expected scales of shape [{channels}] in F32, found {dims:?} in {dtype:?}"));
    }
    let scales: Vec<f32> = scales.to_vec1().map_err(|e| e.to_string())?;
    if let Some(bad) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
        return Err(format!("expected scales that are finite and above 0, found {bad}"));
    }
    if codes.contains(&(i8::MIN as u8)) {
        return Err("expected values from -127 to 127, found -128".to_owned());
    }
    let len = codes.len() / channels.max(1);
    let weights = codes.iter().enumerate().map(|(i, &code)| f32::from(code as i8) * scales[i / len]);
    Tensor::from_iter(weights, &Device::Cpu).and_then(|flat| flat.reshape(shape)).map_err(|e| e.to_string())
}
