//! A file of weights in whatever format, brought to this network's names.
//!
//! Formats are told by content, never by the file's extension: safetensors, PyTorch state dicts as `torch.save` writes
//! them, and ONNX. Names are torchvision's with or without `backbone.`; a `module.` that `DataParallel` left is
//! dropped.
//!
//! A file may come from a stranger. Nothing in it is run, and reading takes no more memory than twice its length and
//! 100 MB: see the limits in `tensor_file.rs`, `pickle.rs`, `state_dict.rs` and `onnx/message.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ff_core::files::read_within;

use super::fit::{self, FileTensor, LoadReport};
use super::onnx::{OnnxFile, is_onnx};
use super::tensor_file::TensorFile;
use super::{Scope, TaskLabels, fairface, labels, state_dict};
use crate::architecture::{Architecture, METADATA_KEY};
use crate::layout::BACKBONE_PREFIX;
use crate::{Error, HeadSpec, Parameters, Result};

/// Bytes of a file of weights. This network's take 85 MB, training scripts' checkpoints of it three times that.
const MAX_FILE: u64 = 4 << 30;

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
    architecture: Option<Architecture>,
    original: Option<Vec<u8>>,
}

impl WeightFile {
    /// Reads a file. Whether it fits a model is [`WeightFile::check`]'s to say.
    ///
    /// # Errors
    /// Neither safetensors nor a PyTorch state dict nor a ResNet in ONNX, or too long; labels in the metadata that are
    /// none.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, read_bytes(path)?)
    }

    /// Reads a file's bytes; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`WeightFile::read`].
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let Contents { tensors, labels, architecture, safetensors } = Contents::parse(path, bytes)?;
        let prefixed = tensors.keys().any(|name| name.starts_with(BACKBONE_PREFIX));
        let full_name = |name: &str| match prefixed {
            true => name.to_owned(),
            false => format!("{BACKBONE_PREFIX}{name}"),
        };
        let in_backbone = |name| str::strip_prefix(name, BACKBONE_PREFIX).unwrap_or(name);
        let names = || tensors.keys().map(|name| in_backbone(name));
        let architecture = architecture.or_else(|| Architecture::of_tensors(names()));
        let classifier = match (tensors.get("fc.weight"), tensors.get("fc.bias")) {
            (Some(weight), Some(bias)) if fairface::is_classifier(weight) => Some((weight, bias)),
            _ => None,
        };
        let (kind, labels, heads) = match classifier {
            Some((weight, bias)) => {
                let heads = fairface::split_classifier(path, weight, bias)?;
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
        let (path, tensors) = (path.to_owned(), named.chain(heads).collect());
        Ok(Self { path, kind, tensors, labels, architecture, original })
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

    /// The backbone in the file: as its metadata say, or the names of its tensors. ResNet-34 where neither does.
    pub fn architecture(&self) -> Architecture {
        self.architecture.unwrap_or_default()
    }

    /// The file's bytes, where they are safetensors that need no change.
    pub(super) fn original(&self) -> Option<&[u8]> {
        self.original.as_deref()
    }

    /// The heads of the model in the file; none where it is a backbone.
    pub fn heads(&self) -> Vec<HeadSpec> {
        self.labels.as_deref().unwrap_or_default().iter().map(TaskLabels::head).collect()
    }

    /// What of a model is in the file.
    pub fn scope(&self) -> Scope {
        if self.labels.is_some() { Scope::Model } else { Scope::Backbone }
    }

    /// A model of the file's architecture and heads with its values; where it is a backbone, without heads.
    ///
    /// # Errors
    /// As [`WeightFile::check`].
    pub fn parameters(&self) -> Result<(Parameters, LoadReport)> {
        let (scope, heads) = (self.scope(), self.heads());
        self.check(scope, &heads)?;
        let mut parameters = Parameters::initialise(self.architecture(), &heads, 0, &Device::Cpu)?;
        let report = self.fill(scope, &mut parameters)?;
        Ok((parameters, report))
    }

    /// Whether the file fits a model of its architecture with these heads. To be asked before there is one: labels may
    /// be many.
    ///
    /// # Errors
    /// [`Error::Mismatch`] names every missing, extra and wrongly shaped tensor.
    pub fn check(&self, scope: Scope, heads: &[HeadSpec]) -> Result<()> {
        fit::check(&self.path, &self.tensors, scope, self.architecture(), heads)
    }

    /// Fills a model's parameters.
    ///
    /// # Errors
    /// As [`load`](super::load).
    pub fn fill(&self, scope: Scope, parameters: &mut Parameters) -> Result<LoadReport> {
        let expected = parameters.architecture();
        match self.architecture {
            Some(found) if found != expected => Err(Error::Mismatch {
                path: self.path.clone(),
                problems: vec![format!("the backbone: expected {expected}, found {found}")],
            }),
            _ => fit::fill(&self.path, &self.tensors, scope, parameters),
        }
    }
}

/// Every tensor of a safetensors file or PyTorch state dict under its name in the file, in its own type; of a network
/// in ONNX under the name that it has here.
///
/// No code from a pickle is run.
///
/// # Errors
/// Neither of these formats, damaged, or too long.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    Ok(Contents::parse(path, read_bytes(path)?)?.tensors)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_within(path, MAX_FILE, &mut bytes)?;
    Ok(bytes)
}

/// What lies in a file, before anything is made of it.
struct Contents {
    tensors: BTreeMap<String, Tensor>,
    labels: Option<Vec<TaskLabels>>,
    /// As the metadata say.
    architecture: Option<Architecture>,
    /// The bytes, where they are safetensors.
    safetensors: Option<Vec<u8>>,
}

impl Contents {
    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        if is_onnx(&bytes) {
            let bad = |message: String| Error::Onnx { path: path.to_owned(), message };
            let file = OnnxFile::parse(&bytes).map_err(bad)?;
            let labels = file.metadata(labels::KEY).map(|json| labels::from_json(path, json)).transpose()?;
            let (architecture, tensors) = file.network(labels.as_deref()).map_err(bad)?;
            return Ok(Self { tensors, labels, architecture: Some(architecture), safetensors: None });
        }
        if !state_dict::is_state_dict(&bytes) {
            let file = TensorFile::parse(&bytes)
                .map_err(|message| Error::Safetensors { path: path.to_owned(), message })?;
            let labels =
                file.metadata.get(labels::KEY).map(|json| labels::from_json(path, json)).transpose()?;
            let architecture = file.metadata.get(METADATA_KEY).map(|name| name.parse()).transpose();
            let architecture = architecture.map_err(|expected| Error::Safetensors {
                path: path.to_owned(),
                message: format!("{METADATA_KEY} in the metadata: {expected}"),
            })?;
            return Ok(Self { tensors: file.tensors, labels, architecture, safetensors: Some(bytes) });
        }
        let bad = |message: String| Error::Pickle { path: path.to_owned(), message };
        let mut tensors = BTreeMap::new();
        for (name, tensor) in state_dict::read(&bytes).map_err(bad)? {
            let plain = name.strip_prefix("module.").unwrap_or(&name).to_owned();
            if tensors.insert(plain, tensor).is_some() {
                return Err(bad(format!("{name}: expected one tensor of this name, found two")));
            }
        }
        Ok(Self { tensors, labels: None, architecture: None, safetensors: None })
    }
}
