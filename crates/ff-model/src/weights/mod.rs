//! Weights in and out of files, under torchvision's names, with every misfit reported by name.
//!
//! Whatever the format, a file is first brought to one set of names ([`WeightFile`]), and then goes through the same
//! checks: it is checked whole before a single value changes. Reading accepts f32, f16 and bf16; writing is
//! safetensors in f32.

mod archive;
mod fairface;
mod fit;
mod labels;
mod pickle;
mod source;
mod state_dict;
mod tensor_file;

use std::path::Path;

use candle_core::{Device, Tensor};
use ff_core::files::sha256;

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
    to_safetensors(parameters.named()?, &entries.collect::<Vec<_>>())
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
    let heads = file.heads();
    let scope = if heads.is_empty() { Scope::Backbone } else { Scope::Model };
    file.check(scope, &heads)?;
    let mut parameters = Parameters::initialise(file.architecture(), &heads, 0, &Device::Cpu)?;
    let report = file.fill(scope, &mut parameters)?;
    let params = match scope {
        Scope::Backbone => parameters.layout().backbone().len(),
        Scope::Model => parameters.layout().len(),
    };
    let bytes = match (file.original(), file.labels()) {
        (Some(bytes), _) => bytes.to_vec(),
        (None, Some(labels)) => serialise(&parameters, labels_metadata(labels))?,
        (None, None) => {
            let named = parameters.named()?.into_iter();
            let backbone = named.filter_map(|(n, t)| Some((n.strip_prefix(BACKBONE_PREFIX)?.to_owned(), t)));
            to_safetensors(backbone.collect(), &[])?
        }
    };
    let backbone_sha256 = backbone_sha256(&parameters)?;
    let (kind, architecture) = (file.kind(), file.architecture());
    Ok(Converted { bytes, kind, architecture, tensors: report.loaded, params, backbone_sha256 })
}

fn backbone_sha256(parameters: &Parameters) -> Result<String> {
    let mut named = parameters.named()?;
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut bytes = Vec::new();
    for (name, tensor) in named {
        let Some(name) = name.strip_prefix(BACKBONE_PREFIX) else { continue };
        bytes.extend(format!("{name} {:?}\n", tensor.dims()).into_bytes());
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(sha256(&bytes))
}

fn to_safetensors(tensors: Vec<(String, Tensor)>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let on_cpu = |(name, t): (String, Tensor)| Ok((name, t.to_device(&Device::Cpu)?));
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(on_cpu).collect::<Result<_>>()?;
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
