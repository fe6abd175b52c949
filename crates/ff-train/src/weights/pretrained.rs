//! Weights from the network or from a file, checked, and put where training and prediction find them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ff_core::files::{sha256, write_atomic};
use ff_hub::Transfer;
use ff_hub::address::{self, RemoteFile};
use ff_hub::catalogue::{KnownModel, MODELS, Place, Purpose, in_repository};
use ff_hub::hub::{self, Fetched, HashCheck, HubFile, RepositoryKind};
use ff_model::weights::{self, Converted, Kind};
use serde::Serialize;

use super::init::NO_CACHE;
use crate::{Error, Result};

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsSource {
    /// Where the catalogue says.
    Known(&'static KnownModel),
    /// A repository on the hub, as `timm/resnet34.tv_in1k`.
    Hub(String),
    /// A file: whatever [`weights::convert`] reads, of torchvision, timm, FairFace or this project.
    File {
        /// The file.
        path: PathBuf,
        /// The model that it is to be kept as, under its name.
        kept_as: Option<&'static KnownModel>,
    },
}

/// Where weights go, and how long they are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// The folder that names are looked up in, as [`user_cache`](ff_data::user_cache).
    pub cache: Option<&'a Path>,
    /// A file instead of the usual one.
    pub out: Option<&'a Path>,
    /// Longest silence of a server.
    pub timeout: Duration,
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
    /// The name that they can be asked for by from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// What they are known as: their content is pinned, whatever file it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<&'static str>,
    /// The licence of what is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<&'static str>,
    /// Whom to name for what is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<&'static str>,
    /// Whether the download's SHA-256 is the one that the hub announced or that is known of its address; `None` for
    /// files that did not come from the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

/// A file as it came, before anything is made of it.
struct Original<'a> {
    path: PathBuf,
    /// As it was checked on its way here.
    sha256: Option<String>,
    verified: Option<bool>,
    /// Where it came from, if from the hub: it keeps what it fetched.
    hub: Option<(HubFile<'a>, Fetched)>,
}

/// Gets weights, checks that they fit the network, and writes them as safetensors.
///
/// What is known by name goes to `NAME.safetensors` in the cache folder, and so does any other backbone, under its
/// architecture's name: that is where `[model] init` and a model's name look. Another whole model goes beside the
/// original, under its name with `.safetensors`.
///
/// What the catalogue pins is refused if it turns out to be something else, whatever a server says of it.
///
/// # Errors
/// They cannot be had, do not fit, or are not what the name means; the file would replace its original.
pub fn install(
    source: &WeightsSource,
    to: Installation<'_>,
    progress: &mut dyn FnMut(Transfer),
) -> Result<Installed> {
    let original = source.get(to, progress)?;
    let converted = weights::convert(&original.path)?;
    let wanted = source.known();
    let file_sha256 = match &original.sha256 {
        Some(sha256) => sha256.clone(),
        None => sha256(&fs_err::read(&original.path)?),
    };
    let is_it = |model: &&KnownModel| model.is(&file_sha256, &converted.backbone_sha256);
    let known = MODELS.into_iter().chain(wanted).find(is_it);
    if let Some(wanted) = wanted {
        original.check(wanted, &converted, known == Some(wanted))?;
    }
    let name = match (wanted, converted.kind) {
        (Some(wanted), _) => Some(wanted.name),
        (None, Kind::Backbone) => Some(converted.architecture.name()),
        (None, Kind::Model | Kind::Fairface) => None,
    };
    let bad =
        |path: &Path, message: &str| Error::BadFile { path: path.to_owned(), message: message.to_owned() };
    let path = match (to.out, name) {
        (Some(out), _) => out.to_owned(),
        (None, Some(name)) => {
            let message = || format!("it was to be kept in {NO_CACHE}; name a file to write");
            let cache = to.cache.ok_or_else(|| bad(&original.path, &message()))?;
            cache.join(format!("{name}.safetensors"))
        }
        (None, None) => original.path.with_extension("safetensors"),
    };
    if let (Ok(a), Ok(b)) = (path.canonicalize(), original.path.canonicalize())
        && a == b
    {
        return Err(bad(&path, "the converted file would replace its original; name another file to write"));
    }
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    write_atomic(&path, &converted.bytes)?;
    let Converted { bytes, kind, tensors, params, .. } = converted;
    Ok(Installed {
        path,
        sha256: sha256(&bytes),
        kind,
        tensors,
        params,
        name: name.filter(|_| to.out.is_none()),
        known: known.map(|model| model.title),
        licence: known.map(|model| model.licence),
        credit: known.map(|model| model.credit),
        verified: original.verified,
    })
}

impl WeightsSource {
    /// The model that is meant.
    fn known(&self) -> Option<&'static KnownModel> {
        match self {
            Self::Known(model) => Some(model),
            Self::Hub(repository) => in_repository(repository),
            Self::File { kept_as, .. } => *kept_as,
        }
    }

    fn get(&self, to: Installation<'_>, progress: &mut dyn FnMut(Transfer)) -> Result<Original<'_>> {
        match self {
            Self::File { path, .. } => {
                Ok(Original { path: path.clone(), sha256: None, verified: None, hub: None })
            }
            Self::Known(KnownModel { place: Place::Hub(file), .. }) => {
                Original::of_hub(*file, to.timeout, progress)
            }
            Self::Known(KnownModel { place: Place::Address(file), .. }) => {
                Original::of_address(*file, to, progress)
            }
            Self::Hub(repository) => {
                let file = match in_repository(repository).map(|model| model.place) {
                    Some(Place::Hub(file)) => file,
                    _ => HubFile {
                        repository,
                        kind: RepositoryKind::Model,
                        revision: "main",
                        file: "model.safetensors",
                    },
                };
                Original::of_hub(file, to.timeout, progress)
            }
        }
    }
}

impl<'a> Original<'a> {
    fn of_hub(file: HubFile<'a>, timeout: Duration, progress: &mut dyn FnMut(Transfer)) -> Result<Self> {
        let fetched = hub::fetch(file, timeout, progress)?;
        let verified = Some(fetched.check == HashCheck::Matches);
        let (path, sha256) = (fetched.path.clone(), Some(fetched.sha256.clone()));
        Ok(Self { path, sha256, verified, hub: Some((file, fetched)) })
    }

    /// The download stays in the cache folder, as the hub's stay in the hub's.
    fn of_address(
        file: RemoteFile<'_>,
        to: Installation<'_>,
        progress: &mut dyn FnMut(Transfer),
    ) -> Result<Self> {
        let cache = to.cache.ok_or_else(|| Error::BadFile {
            path: file.address.into(),
            message: format!("it was to be kept in {NO_CACHE}"),
        })?;
        let name = file.address.rsplit('/').next().unwrap_or_default();
        let path = cache.join("downloads").join(name);
        address::fetch(file, &path, to.timeout, progress)?;
        Ok(Self { path, sha256: Some(file.sha256.to_owned()), verified: Some(true), hub: None })
    }

    /// Whether this is what was asked for. A file of the user's own may have other values, but not be of another kind.
    fn check(&self, wanted: &KnownModel, converted: &Converted, is_known: bool) -> Result<()> {
        let sums = [("of the backbone", wanted.backbone_sha256), ("of the file", wanted.file_sha256)];
        let sums = sums.iter().filter_map(|(of, sum)| Some(format!("{of} {}", (*sum)?)));
        let sums = sums.collect::<Vec<_>>().join(", or ");
        if let Some((file, fetched)) = self.hub.as_ref().filter(|_| !is_known && !sums.is_empty()) {
            fetched.forget(*file)?;
            let reason = format!(
                "expected {} (SHA-256 {sums}), found {} and {}: other weights under that name, deleted",
                wanted.title, converted.backbone_sha256, fetched.sha256
            );
            return Err(ff_hub::Error::Download { what: file.repository.to_owned(), reason }.into());
        }
        let expected = match wanted.purpose {
            Purpose::Backbone => format!("a {} backbone", wanted.name),
            Purpose::Prediction => "a whole model".to_owned(),
        };
        let found = match converted.kind {
            Kind::Backbone => format!("a {} backbone", converted.architecture),
            Kind::Model | Kind::Fairface => "a whole model".to_owned(),
        };
        if found == expected {
            return Ok(());
        }
        let message = format!("expected {expected}, as {} is one, found {found}", wanted.name);
        Err(Error::BadFile { path: self.path.clone(), message })
    }
}
