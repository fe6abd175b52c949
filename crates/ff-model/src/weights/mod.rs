//! Weights in and out of files, under torchvision's names, with every misfit reported by name.
//!
//! Whatever the format, a file is first brought to one set of names ([`WeightFile`]), and then goes through the same
//! checks: it is checked whole before a single value changes. Reading accepts f32, f16, bf16 and 8 bits with scales;
//! writing is safetensors in f32, or [`compact`]ed to 8 bits.

mod archive;
mod compact;
mod fairface;
mod fit;
mod labels;
mod onnx;
mod pickle;
mod source;
mod state_dict;
mod tensor_file;

use std::path::Path;

use candle_core::{Device, Tensor};
use ff_core::files::sha256;
use safetensors::View;

pub use fit::LoadReport;
pub use labels::{TaskLabels, labels_metadata};
pub use source::{Kind, WeightFile, read_tensors};

use crate::layout::BACKBONE_PREFIX;
use crate::{Architecture, Error, Parameters, Result};

/// Which tensors a file must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only the backbone; heads in the file are set aside.
    Backbone,
    /// Every parameter and statistic of the model.
    Model,
}

/// Fills `parameters` from a file: torchvision's or timm's ResNet, FairFace's, or a checkpoint of this crate.
///
/// A classifier `fc.*` is set aside, and so are the heads of a checkpoint in [`Scope::Backbone`]; BatchNorm's batch
/// counters are ignored.
///
/// # Errors
/// [`Error::Mismatch`] names every missing, extra and wrongly shaped tensor; the model is unchanged then.
pub fn load(path: &Path, scope: Scope, parameters: &mut Parameters) -> Result<LoadReport> {
    WeightFile::read(path)?.fill(scope, parameters)
}

/// The bytes of a safetensors file with every tensor of the model, f32, and this metadata entry; another one says the
/// architecture where it is not ResNet-34. Equal models give equal bytes.
pub fn serialise(parameters: &Parameters, metadata: (&str, String)) -> Result<Vec<u8>> {
    let (key, value) = &metadata;
    let entries = [(*key, value.as_str())].into_iter().chain(parameters.architecture().metadata());
    let on_cpu = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&Device::Cpu)?));
    let tensors = parameters.named()?.into_iter().map(on_cpu).collect::<Result<Vec<_>>>()?;
    to_safetensors(tensors, &entries.collect::<Vec<_>>())
}

/// A file of weights as this project keeps it.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The safetensors file: a complete model with its labels in the metadata, or a backbone under torchvision's names.
    pub bytes: Vec<u8>,
    /// What the original was.
    pub kind: Kind,
    /// The backbone in it.
    pub architecture: Architecture,
    /// Tensors in it, statistics included.
    pub tensors: usize,
    /// Parameters in it.
    pub params: usize,
    /// SHA-256 of the backbone's tensors, the same in every file format: for each of them, by name, a line
    /// `bn1.bias [64]` with torchvision's name and the shape, then its values as little-endian f32.
    pub backbone_sha256: String,
}

/// Checks a file in any format that is read, and gives it as safetensors. What needs no change keeps its bytes.
///
/// # Errors
/// As [`load`].
pub fn convert(path: &Path) -> Result<Converted> {
    let file = WeightFile::read(path)?;
    let (parameters, report) = file.parameters()?;
    let scope = file.scope();
    let params = match scope {
        Scope::Backbone => parameters.layout().backbone().len(),
        Scope::Model => parameters.layout().len(),
    };
    let bytes = match (file.original(), file.labels()) {
        (Some(bytes), _) => bytes.to_vec(),
        (None, Some(labels)) => serialise(&parameters, labels_metadata(labels))?,
        (None, None) => to_safetensors(named(&parameters, scope)?, &[])?,
    };
    let backbone_sha256 = backbone_sha256(&parameters)?;
    let (kind, architecture) = (file.kind(), file.architecture());
    Ok(Converted { bytes, kind, architecture, tensors: report.loaded, params, backbone_sha256 })
}

/// As [`serialise`], in 8 bits: a scale an output channel of every convolution and linear layer, but the first ones in
/// f16, and all else in f32. It is a quarter as long, and whatever reads weights reads it. Without labels it is the
/// backbone alone, under torchvision's names.
pub fn compact(parameters: &Parameters, labels: &[TaskLabels]) -> Result<Vec<u8>> {
    let scope = if labels.is_empty() { Scope::Backbone } else { Scope::Model };
    let mut stored = Vec::new();
    for (name, tensor) in named(parameters, scope)? {
        stored.extend(compact::store(name, tensor)?);
    }
    let labels = (scope == Scope::Model).then(|| labels_metadata(labels));
    let metadata = labels.iter().map(|(key, value)| (*key, value.as_str()));
    let metadata: Vec<_> = metadata.chain(parameters.architecture().metadata()).collect();
    to_safetensors(stored.iter().map(|(name, tensor)| (name, tensor)), &metadata)
}

/// The tensors of a whole model, or of a backbone under torchvision's names.
fn named(parameters: &Parameters, scope: Scope) -> Result<Vec<(String, Tensor)>> {
    let named = parameters.named()?.into_iter();
    Ok(match scope {
        Scope::Model => named.collect(),
        Scope::Backbone => {
            named.filter_map(|(n, t)| Some((n.strip_prefix(BACKBONE_PREFIX)?.to_owned(), t))).collect()
        }
    })
}

/// SHA-256 of a backbone's tensors: [`Converted::backbone_sha256`].
///
/// # Errors
/// The device does not give its values.
pub fn backbone_sha256(parameters: &Parameters) -> Result<String> {
    let mut named = named(parameters, Scope::Backbone)?;
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut bytes = Vec::new();
    for (name, tensor) in named {
        bytes.extend(format!("{name} {:?}\n", tensor.dims()).into_bytes());
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(sha256(&bytes))
}

/// The bytes of a safetensors file with these entries of metadata, in this order.
///
/// # Errors
/// [`Error::Safetensors`] where a tensor cannot be written.
pub fn to_safetensors<N: AsRef<str> + Ord + std::fmt::Display, V: View>(
    tensors: impl IntoIterator<Item = (N, V)>,
    metadata: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let mut bytes = safetensors::serialize(tensors, None)
        .map_err(|e| Error::Safetensors { path: "model.safetensors".into(), message: e.to_string() })?;
    if !metadata.is_empty() {
        insert_metadata(&mut bytes, metadata);
    }
    Ok(bytes)
}

/// Puts metadata into a safetensors file in this order: the safetensors crate writes them in that of a hash map, and
/// equal models must give equal bytes.
fn insert_metadata(bytes: &mut Vec<u8>, metadata: &[(&str, &str)]) {
    const LEN: usize = size_of::<u64>();
    let (len, rest) = bytes.split_first_chunk::<LEN>().expect("the file begins with its header's length");
    let len = u64::from_le_bytes(*len) as usize;
    let header = rest[..len].trim_ascii_end();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let entries = metadata.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)));
    let entries = entries.collect::<Vec<_>>().join(",");
    let mut longer = format!(r#"{{"__metadata__":{{{entries}}},"#).into_bytes();
    longer.extend(&header[1..]);
    longer.resize(longer.len().next_multiple_of(LEN), b' ');
    bytes.splice(LEN..LEN + len, longer.iter().copied());
    bytes[..LEN].copy_from_slice(&(longer.len() as u64).to_le_bytes());
}
