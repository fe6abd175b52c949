//! Whether a file's tensors fit the network, and how they get into it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};

use super::Scope;
use super::source::FileTensor;
use crate::layout::{BACKBONE_PREFIX, Entry, ParameterLayout};
use crate::{Error, Parameters, Result};

/// What loading a file did beside filling the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors filled.
    pub loaded: usize,
    /// Tensors of the file that the model has no use for, as a classifier's `fc.weight`.
    pub set_aside: Vec<String>,
}

/// Fills `parameters` with tensors by full name.
///
/// # Errors
/// [`Error::Mismatch`] names every misfit; nothing is changed then.
pub(super) fn fill(
    path: &Path,
    tensors: &BTreeMap<String, FileTensor>,
    scope: Scope,
    parameters: &mut Parameters,
) -> Result<LoadReport> {
    let wanted = Wanted::new(parameters, scope);
    let mut report = LoadReport::default();
    let mut problems = Vec::new();
    let mut found = HashMap::new();
    for (full_name, FileTensor { name, tensor }) in tensors {
        if let Some((entry, destination)) = wanted.get(full_name) {
            let filled = match (tensor.dims() == entry.shape, tensor.dtype()) {
                (false, _) => Err(format!("expected shape {:?}, found {:?}", entry.shape, tensor.dims())),
                (_, DType::F32 | DType::F16 | DType::BF16) => {
                    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?)
                }
                (_, other) => Err(format!("expected type F32, F16 or BF16, found {other:?}")),
            };
            problems.extend(filled.as_ref().err().map(|problem| format!("{name}: {problem}")));
            found.insert(full_name, (destination, entry.offset, filled.ok()));
        } else if is_classifier(name) || (scope == Scope::Backbone && !full_name.starts_with(BACKBONE_PREFIX))
        {
            report.set_aside.push(name.clone());
        } else if !name.ends_with(".num_batches_tracked") {
            problems.push(format!("{name}: not a tensor of this network"));
        }
    }
    // Names as the file would spell them.
    let prefixed = tensors.iter().all(|(full_name, t)| *full_name == t.name);
    for (name, (entry, _)) in &wanted.entries {
        let shown = if prefixed { name.as_str() } else { name.trim_start_matches(BACKBONE_PREFIX) };
        if !found.contains_key(name) {
            problems.push(format!("{shown}: missing, expected shape {:?}", entry.shape));
        }
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path.to_owned(), problems });
    }
    report.set_aside.sort_unstable();
    report.set_aside.dedup();
    report.loaded = found.len();
    parameters.update(|values, statistics| {
        for (destination, offset, tensor) in found.into_values() {
            let flat = if destination == Destination::Values { values } else { statistics };
            let tensor: Tensor = tensor.expect("there are no problems");
            flat.slice_set(&tensor.to_device(flat.device())?, 0, offset)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(report)
}

/// Whether a tensor is part of an ImageNet (or other) classifier, which this network does not have.
pub(super) fn is_classifier(name: &str) -> bool {
    matches!(name.trim_start_matches(BACKBONE_PREFIX), "fc.weight" | "fc.bias")
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
