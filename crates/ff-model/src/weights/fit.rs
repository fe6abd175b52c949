//! Whether a file's tensors fit the network, and how they get into it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::Scope;
use crate::layout::{BACKBONE_PREFIX, Entry, ParameterLayout, Role};
use crate::{Architecture, Error, HeadSpec, Parameters, Result};

/// A tensor, and its name in the file.
#[derive(Debug)]
pub(super) struct FileTensor {
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// What loading a file did beside filling the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors filled.
    pub loaded: usize,
    /// Tensors of the file that the model has no use for, as a classifier's `fc.weight`.
    pub set_aside: Vec<String>,
}

/// Whether tensors by full name fit a model of this architecture with these heads.
///
/// # Errors
/// [`Error::Mismatch`] names every misfit.
pub(super) fn check(
    path: &Path,
    tensors: &BTreeMap<String, FileTensor>,
    scope: Scope,
    architecture: Architecture,
    heads: &[HeadSpec],
) -> Result<()> {
    let layout = ParameterLayout::parameters(architecture, heads);
    let statistics = ParameterLayout::statistics(architecture);
    misfits(path, tensors, scope, &Wanted::new(&layout, &statistics, scope)).map(drop)
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
    let wanted = Wanted::new(parameters.layout(), parameters.statistics_layout(), scope);
    let set_aside = misfits(path, tensors, scope, &wanted)?;
    parameters.update(|values, statistics| {
        for (name, (entry, destination)) in &wanted.entries {
            let flat = if *destination == Destination::Values { values } else { statistics };
            let tensor = tensors[name].tensor.to_dtype(DType::F32)?.flatten_all()?;
            flat.slice_set(&tensor.to_device(flat.device())?, 0, entry.offset)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(LoadReport { loaded: wanted.entries.len(), set_aside })
}

/// Refuses tensors that are missing, not wanted, or not what is wanted; gives the names of those that are of no use.
fn misfits(
    path: &Path,
    tensors: &BTreeMap<String, FileTensor>,
    scope: Scope,
    wanted: &Wanted,
) -> Result<Vec<String>> {
    let (mut set_aside, mut problems) = (Vec::new(), Vec::new());
    for (full_name, FileTensor { name, tensor }) in tensors {
        if let Some((entry, _)) = wanted.entries.get(full_name) {
            let values = if entry.role == Role::RunningVar { Values::Variances } else { Values::Any };
            problems
                .extend(problem(tensor, &entry.shape, values)?.map(|problem| format!("{name}: {problem}")));
        } else if is_classifier(name) || (scope == Scope::Backbone && !full_name.starts_with(BACKBONE_PREFIX))
        {
            set_aside.push(name.clone());
        } else if !name.ends_with(".num_batches_tracked") {
            problems.push(format!("{name}: not a tensor of this network"));
        }
    }
    // Names as the file would spell them.
    let prefixed = tensors.iter().all(|(full_name, t)| *full_name == t.name);
    for (name, (entry, _)) in &wanted.entries {
        let shown = if prefixed { name.as_str() } else { name.trim_start_matches(BACKBONE_PREFIX) };
        if !tensors.contains_key(name) {
            problems.push(format!("{shown}: missing, expected shape {:?}", entry.shape));
        }
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path.to_owned(), problems });
    }
    set_aside.sort_unstable();
    set_aside.dedup();
    Ok(set_aside)
}

/// What values a tensor may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Any that are finite.
    Any,
    /// Those, from 0 on: the network divides by their root.
    Variances,
}

/// What is wrong with a tensor, if anything is: shape, type, or its first value that cannot be. One value that is no
/// number makes every answer of the network none, or worse, a plausible one: ReLU turns NaN into 0.
pub(super) fn problem(tensor: &Tensor, shape: &[usize], values: Values) -> Result<Option<String>> {
    if tensor.dims() != shape {
        return Ok(Some(format!("expected shape {shape:?}, found {:?}", tensor.dims())));
    }
    if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
        return Ok(Some(format!("expected type F32, F16 or BF16, found {:?}", tensor.dtype())));
    }
    let flat: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let is_bad = |value: &f32| !value.is_finite() || (values == Values::Variances && *value < 0.0);
    let Some(place) = flat.iter().position(is_bad) else { return Ok(None) };
    let expected = match values {
        Values::Any => "finite numbers",
        Values::Variances => "finite variances of 0 or more",
    };
    let (mut index, mut rest) = (vec![0; shape.len()], place);
    for (i, dim) in index.iter_mut().zip(shape).rev() {
        (*i, rest) = (rest % dim, rest / dim);
    }
    Ok(Some(format!("expected {expected}, found {} at {index:?}", flat[place])))
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
    fn new(parameters: &ParameterLayout, statistics: &ParameterLayout, scope: Scope) -> Self {
        let in_scope = |e: &&Entry| scope == Scope::Model || e.name.starts_with(BACKBONE_PREFIX);
        let part = |layout: &ParameterLayout, destination| {
            let entries = layout.entries().iter().filter(in_scope);
            entries.map(|e| (e.name.clone(), (e.clone(), destination))).collect::<Vec<_>>()
        };
        let mut entries = BTreeMap::new();
        entries.extend(part(parameters, Destination::Values));
        entries.extend(part(statistics, Destination::Statistics));
        Self { entries }
    }
}
