//! A file of weights in whatever format, brought to this network's names.
//!
//! Formats are told by content, never by the file's extension: safetensors, and PyTorch state dicts as `torch.save`
//! writes them. Names are torchvision's with or without `backbone.`; a `module.` that `DataParallel` left is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors::Load};
use safetensors::SafeTensors;

use super::fit::{self, LoadReport};
use super::{Scope, TaskLabels, fairface, labels, pickle};
use crate::layout::BACKBONE_PREFIX;
use crate::{Error, Parameters, Result};

/// What a file of weights turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A model of this project: backbone, heads, and labels in the metadata.
    Model,
    /// FairFace's release: a backbone with one classifier for all three tasks.
    Fairface,
    /// A backbone; what else is in the file is of no use here.
    Backbone,
}

/// The tensors of a file, under this network's names.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    kind: Kind,
    tensors: BTreeMap<String, FileTensor>,
    labels: Option<Vec<TaskLabels>>,
    original: Option<Vec<u8>>,
}

/// A tensor, and its name in the file.
#[derive(Debug)]
pub(super) struct FileTensor {
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

impl WeightFile {
    /// Reads a file. Whether it fits a model is [`WeightFile::fill`]'s to say.
    ///
    /// # Errors
    /// Neither safetensors nor a PyTorch state dict; labels in the metadata that are none.
    pub fn read(path: &Path) -> Result<Self> {
        let File { tensors, labels, safetensors } = File::read(path)?;
        let prefixed = tensors.keys().any(|name| name.starts_with(BACKBONE_PREFIX));
        let full_name = |name: &str| match prefixed {
            true => name.to_owned(),
            false => format!("{BACKBONE_PREFIX}{name}"),
        };
        let classifier = match (tensors.get("fc.weight"), tensors.get("fc.bias")) {
            (Some(weight), Some(bias)) if fairface::is_classifier(weight) => Some((weight, bias)),
            _ => None,
        };
        let (kind, labels, heads) = match classifier {
            Some((weight, bias)) => {
                let heads = fairface::split_classifier(weight, bias)?;
                (Kind::Fairface, Some(heads.labels), heads.tensors)
            }
            None if labels.is_some() => (Kind::Model, labels, Vec::new()),
            None => (Kind::Backbone, None, Vec::new()),
        };
        let heads = heads.into_iter().map(|(name, tensor)| {
            let in_file = if name.ends_with("weight") { "fc.weight" } else { "fc.bias" };
            (name, FileTensor { name: in_file.to_owned(), tensor })
        });
        let heads: Vec<_> = heads.collect();
        let named = tensors.into_iter().map(|(name, tensor)| (full_name(&name), FileTensor { name, tensor }));
        let original = safetensors.filter(|_| kind != Kind::Fairface);
        Ok(Self { path: path.to_owned(), kind, tensors: named.chain(heads).collect(), labels, original })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Tasks and their labels, where the file is a whole model.
    pub fn labels(&self) -> Option<&[TaskLabels]> {
        self.labels.as_deref()
    }

    /// The file's bytes, where they are safetensors that need no change.
    pub(super) fn original(&self) -> Option<&[u8]> {
        self.original.as_deref()
    }

    /// Fills a model's parameters.
    ///
    /// # Errors
    /// As [`load`](super::load).
    pub fn fill(&self, scope: Scope, parameters: &mut Parameters) -> Result<LoadReport> {
        fit::fill(&self.path, &self.tensors, scope, parameters)
    }
}

/// Every tensor of a safetensors file or PyTorch state dict under its name in the file, in its own type.
///
/// No code from a pickle is run.
///
/// # Errors
/// Neither of these formats, or damaged.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    Ok(File::read(path)?.tensors)
}

/// What lies in a file, before anything is made of it.
struct File {
    tensors: BTreeMap<String, Tensor>,
    labels: Option<Vec<TaskLabels>>,
    /// The bytes, where they are safetensors.
    safetensors: Option<Vec<u8>>,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs_err::read(path)?;
        if pickle::is_state_dict(&bytes) {
            let tensors = pickle::read(path, &bytes)?;
            let plain = |name: &str| name.strip_prefix("module.").unwrap_or(name).to_owned();
            let tensors = tensors.into_iter().map(|(name, t)| (plain(&name), t)).collect();
            return Ok(Self { tensors, labels: None, safetensors: None });
        }
        let parse_error = |source| Error::Safetensors { path: path.to_owned(), source };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(parse_error)?;
        let labels = header.metadata().as_ref().and_then(|m| m.get(labels::KEY));
        let labels = labels.map(|json| labels::from_json(path, json)).transpose()?;
        let file = SafeTensors::deserialize(&bytes).map_err(parse_error)?;
        let tensors = file.iter().map(|(name, view)| Ok((name.to_owned(), view.load(&Device::Cpu)?)));
        let tensors = tensors.collect::<Result<_>>()?;
        Ok(Self { tensors, labels, safetensors: Some(bytes) })
    }
}
