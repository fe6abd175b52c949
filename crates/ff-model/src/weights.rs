//! Weights in and out of safetensors files, under torchvision's names, with every misfit reported by name.
//!
//! Reading accepts f32, f16 and bf16; writing is f32. A file is checked whole before a single value changes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::layout::{BACKBONE_PREFIX, Entry, ParameterLayout};
use crate::{Error, Parameters, Result};

/// Which tensors a file must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only the backbone; heads in the file are set aside.
    Backbone,
    /// Every parameter and statistic of the model.
    Model,
}

/// What loading a file did beside filling the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors filled.
    pub loaded: usize,
    /// Tensors of the file that the model has no use for, as a classifier's `fc.weight`.
    pub set_aside: Vec<String>,
}

/// Fills `parameters` from a safetensors file: torchvision's or timm's ResNet-34, or a checkpoint of this crate.
///
/// A classifier `fc.*` is set aside, and so are the heads of a checkpoint in [`Scope::Backbone`]; BatchNorm's batch
/// counters are ignored.
///
/// # Errors
/// [`Error::Mismatch`] names every missing, extra and wrongly shaped tensor; the model is unchanged then.
pub fn load(path: &Path, scope: Scope, parameters: &mut Parameters) -> Result<LoadReport> {
    let bytes = fs_err::read(path)?;
    let parse_error = |source| Error::Safetensors { path: path.to_owned(), source };
    let file = SafeTensors::deserialize(&bytes).map_err(parse_error)?;

    let wanted = Wanted::new(parameters, scope);
    let mut report = LoadReport::default();
    let mut problems = Vec::new();
    let mut found = HashMap::new();
    let mut names = file.names();
    names.sort_unstable();
    let prefixed = names.iter().any(|name| name.starts_with(BACKBONE_PREFIX));
    for name in names {
        let full_name = if prefixed { name.to_owned() } else { format!("{BACKBONE_PREFIX}{name}") };
        if let Some((entry, destination)) = wanted.get(&full_name) {
            let view = file.tensor(name).map_err(parse_error)?;
            if view.shape() == entry.shape {
                let tensor = to_f32(&view, name, &mut problems)?;
                found.extend(tensor.map(|t| (full_name, (destination, entry.offset, t))));
            } else {
                problems.push(format!("{name}: expected shape {:?}, found {:?}", entry.shape, view.shape()));
                found.remove(&full_name);
            }
        } else if is_classifier(name)
            || (scope == Scope::Backbone && prefixed && !name.starts_with(BACKBONE_PREFIX))
        {
            report.set_aside.push(name.to_owned());
        } else if !name.ends_with(".num_batches_tracked") {
            problems.push(format!("{name}: not a tensor of this network"));
        }
    }
    for (name, (entry, _)) in &wanted.entries {
        let shown = if prefixed { name.as_str() } else { name.trim_start_matches(BACKBONE_PREFIX) };
        if !found.contains_key(name) && !problems.iter().any(|p| p.starts_with(&format!("{shown}:"))) {
            problems.push(format!("{shown}: missing, expected shape {:?}", entry.shape));
        }
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path.to_owned(), problems });
    }
    report.loaded = found.len();
    parameters.update(|values, statistics| {
        for (destination, offset, tensor) in found.into_values() {
            let flat = if destination == Destination::Values { values } else { statistics };
            flat.slice_set(&tensor.to_device(flat.device())?, 0, offset)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(report)
}

/// The bytes of a safetensors file with every tensor of the model, f32, and one metadata entry.
///
/// One entry only: safetensors writes metadata in the order of a hash map, and equal models must give equal bytes.
pub fn serialise(parameters: &Parameters, metadata: (&str, String)) -> Result<Vec<u8>> {
    let tensors = parameters.named()?.into_iter().map(|(name, t)| Ok((name, t.to_device(&Device::Cpu)?)));
    let tensors: Vec<(String, Tensor)> = tensors.collect::<Result<_>>()?;
    let metadata = HashMap::from([(metadata.0.to_owned(), metadata.1)]);
    safetensors::serialize(tensors, Some(metadata))
        .map_err(|source| Error::Safetensors { path: "model.safetensors".into(), source })
}

fn is_classifier(name: &str) -> bool {
    matches!(name, "fc.weight" | "fc.bias" | "backbone.fc.weight" | "backbone.fc.bias")
}

/// The tensor as a flat f32 one, or a problem when its type is none that weights come in.
fn to_f32(
    view: &safetensors::tensor::TensorView,
    name: &str,
    problems: &mut Vec<String>,
) -> Result<Option<Tensor>> {
    let dtype = match view.dtype() {
        safetensors::Dtype::F32 => DType::F32,
        safetensors::Dtype::F16 => DType::F16,
        safetensors::Dtype::BF16 => DType::BF16,
        other => {
            problems.push(format!("{name}: expected type F32, F16 or BF16, found {other:?}"));
            return Ok(None);
        }
    };
    let n: usize = view.shape().iter().product();
    Ok(Some(Tensor::from_raw_buffer(view.data(), dtype, &[n], &Device::Cpu)?.to_dtype(DType::F32)?))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Values,
    Statistics,
}

/// The tensors that a file must have, by full name.
struct Wanted {
    entries: BTreeMap<String, (Entry, Destination)>,
}

impl Wanted {
    fn new(parameters: &Parameters, scope: Scope) -> Self {
        let in_scope = |e: &&Entry| scope == Scope::Model || e.name.starts_with(BACKBONE_PREFIX);
        let part = |layout: &ParameterLayout, destination| {
            let entries = layout.entries().iter().filter(in_scope);
            entries.map(|e| (e.name.clone(), (e.clone(), destination))).collect::<Vec<_>>()
        };
        let mut entries = BTreeMap::new();
        entries.extend(part(parameters.layout(), Destination::Values));
        entries.extend(part(parameters.statistics_layout(), Destination::Statistics));
        Self { entries }
    }

    fn get(&self, name: &str) -> Option<(&Entry, Destination)> {
        self.entries.get(name).map(|(entry, destination)| (entry, *destination))
    }
}
