//! Weights from the hub or from a file, checked, and put where training and prediction find them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ff_core::files::{sha256, write_atomic};
use ff_hub::Transfer;
use ff_hub::hub::{self, HashCheck, HubFile, RepositoryKind};
use ff_model::weights::{self, Kind};
use serde::Serialize;

use super::init::cached_weights;
use crate::{Error, Result};

/// torchvision's ImageNet weights of ResNet-34 (`ResNet34_Weights.IMAGENET1K_V1`).
pub const DEFAULT_REPOSITORY: &str = "timm/resnet34.tv_in1k";
/// Its commit of 10 February 2024: what is pushed later is not taken.
const DEFAULT_REVISION: &str = "c983eba7f5e69bc3548a626d1b0b0b914e5de3a6";

/// What weights are known by, wherever they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What they are called.
    pub name: &'static str,
    /// SHA-256 of the file in [`DEFAULT_REPOSITORY`], as others have published it.
    pub file_sha256: &'static str,
    /// SHA-256 of the backbone, computed from a copy that was at hand: see
    /// [`backbone_sha256`](ff_model::weights::Converted::backbone_sha256). It is the same in every container.
    pub backbone_sha256: &'static str,
    /// The licence that they are published under.
    pub licence: &'static str,
}

/// The weights of [`DEFAULT_REPOSITORY`].
pub const IMAGENET: Known = Known {
    name: "torchvision's ResNet34_Weights.IMAGENET1K_V1",
    file_sha256: "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    backbone_sha256: "8abaab25a84b4ad5394a17c69494ebbffc241cbf9c2700e4e31777a950865714",
    licence: "BSD-3-Clause",
};

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsSource {
    /// A repository on the hub, as [`DEFAULT_REPOSITORY`].
    Hub(String),
    /// A file: safetensors or a PyTorch state dict, of torchvision, timm, FairFace or this project.
    File(PathBuf),
}

/// Weights that are ready for use.
#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    /// Where they lie.
    pub path: PathBuf,
    /// SHA-256 of the file there.
    pub sha256: String,
    /// What they are.
    pub kind: Kind,
    /// Tensors in the file, statistics included.
    pub tensors: usize,
    /// Parameters in the file.
    pub params: usize,
    /// What they are known as: their content is pinned here, whatever file it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<&'static str>,
    /// Whether the hub announced this SHA-256; `None` for files that did not come from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

/// Gets weights, checks that they fit the network, and writes them to `out` as safetensors.
///
/// Without `out`, a backbone goes where `--init pretrained` looks for it ([`cached_weights`]), and a whole model beside
/// the original, under its name with `.safetensors`.
///
/// A hub that says nothing is waited for no longer than `timeout`. The default repository's weights are pinned: other
/// ones are refused, whatever the hub says of them.
///
/// # Errors
/// They cannot be had, or do not fit; `out` is the original itself.
pub fn install(
    source: &WeightsSource,
    out: Option<&Path>,
    timeout: Duration,
    progress: &mut dyn FnMut(Transfer),
) -> Result<Installed> {
    let (original, fetched) = match source {
        WeightsSource::Hub(repository) => {
            let fetched = hub::fetch(hub_file(repository), timeout, progress)?;
            (fetched.path.clone(), Some(fetched))
        }
        WeightsSource::File(path) => (path.clone(), None),
    };
    let converted = weights::convert(&original)?;
    let is_known = converted.backbone_sha256 == IMAGENET.backbone_sha256
        || fetched.as_ref().is_some_and(|fetched| fetched.sha256 == IMAGENET.file_sha256);
    if let (Some(fetched), WeightsSource::Hub(repository)) = (&fetched, source)
        && repository == DEFAULT_REPOSITORY
        && !is_known
    {
        fetched.forget(hub_file(repository))?;
        let reason = format!(
            "expected {} (SHA-256 of the backbone {}, or of the file {}), found {} and {}: other weights under that \
             name, deleted",
            IMAGENET.name,
            IMAGENET.backbone_sha256,
            IMAGENET.file_sha256,
            converted.backbone_sha256,
            fetched.sha256
        );
        return Err(ff_hub::Error::Download { what: repository.clone(), reason }.into());
    }
    let verified = fetched.map(|fetched| fetched.check == HashCheck::Matches);
    let path = match (out, converted.kind) {
        (Some(out), _) => out.to_owned(),
        (None, Kind::Backbone) => cached_weights().ok_or_else(|| Error::BadFile {
            path: original.clone(),
            message: "no cache folder to put it in (neither XDG_CACHE_HOME nor HOME is set); give --out"
                .to_owned(),
        })?,
        (None, Kind::Model | Kind::Fairface) => original.with_extension("safetensors"),
    };
    if let (Ok(a), Ok(b)) = (path.canonicalize(), original.canonicalize())
        && a == b
    {
        let message = "the converted file would replace its original; give another --out".to_owned();
        return Err(Error::BadFile { path, message });
    }
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    write_atomic(&path, &converted.bytes)?;
    let weights::Converted { bytes, kind, tensors, params, .. } = converted;
    let known = is_known.then_some(IMAGENET.name);
    Ok(Installed { path, sha256: sha256(&bytes), kind, tensors, params, known, verified })
}

/// A repository's weights, at the commit that is known where one is.
fn hub_file(repository: &str) -> HubFile<'_> {
    let revision = if repository == DEFAULT_REPOSITORY { DEFAULT_REVISION } else { "main" };
    HubFile { repository, kind: RepositoryKind::Model, revision, file: "model.safetensors" }
}
