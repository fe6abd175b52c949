//! The weights that a run begins with.

use std::path::PathBuf;

use ff_data::user_cache;
use ff_hub::catalogue;
use ff_model::{Architecture, FaceModel, weights};

use super::bundled;
use crate::{Error, Result};

/// What is looked for where there is no user's cache.
pub(super) const NO_CACHE: &str = "a cache folder, but neither XDG_CACHE_HOME nor HOME is set";

/// Where the initial weights came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Seeded random values, as asked.
    Random,
    /// Seeded random values, because `auto` found no file in these places, and none is bundled for this backbone.
    RandomForWant(String),
    /// The ImageNet weights that this program carries.
    Bundled,
    /// This file.
    File {
        /// The file.
        path: PathBuf,
        /// Tensors of the file that the backbone has no use for.
        set_aside: Vec<String>,
    },
}

impl std::fmt::Display for Init {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Random | Self::RandomForWant(_) => f.write_str("random"),
            Self::Bundled => f.write_str(bundled::NAME),
            Self::File { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Places where pretrained weights of a backbone are looked for before the bundled ones: `FAIRFACE_WEIGHTS`, then the
/// user's cache.
fn pretrained_candidates(architecture: Architecture) -> Vec<PathBuf> {
    let named = std::env::var_os("FAIRFACE_WEIGHTS").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.into_iter().chain(cached_weights(architecture.name())).collect()
}

/// `NAME.safetensors` in the [`user_cache`], where there is one: weights of this name, or a backbone's.
pub fn cached_weights(name: &str) -> Option<PathBuf> {
    Some(user_cache()?.join(format!("{name}.safetensors")))
}

/// Whether `[model] init` names a file, and none of the other things.
pub fn init_is_file(init: &str) -> bool {
    !["auto", "pretrained", "bundled", "random"].contains(&init) && catalogue::find(init).is_none()
}

/// Fills the model's backbone as `[model] init` says. What the catalogue knows is a name; a file that is called the
/// same is `./NAME`.
///
/// # Errors
/// [`Error::NoPretrained`], [`Error::NotDownloaded`], or a file that cannot be read or does not fit.
pub fn initialise(model: &mut FaceModel, init: &str) -> Result<Init> {
    let candidates = pretrained_candidates(model.architecture());
    let at_hand = candidates.iter().find(|path| path.is_file());
    let looked_for = || {
        let places: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        match places.len() {
            0 => format!("the file that FAIRFACE_WEIGHTS names, and {NO_CACHE}"),
            _ => places.join(", "),
        }
    };
    let wants_bundled = init == "bundled" || (matches!(init, "auto" | "pretrained") && at_hand.is_none());
    if wants_bundled && let Some(bundled) = bundled::weights(model.architecture()) {
        bundled?.fill(weights::Scope::Backbone, model.parameters_mut())?;
        return Ok(Init::Bundled);
    }
    let path = match (init, at_hand) {
        ("random", _) => return Ok(Init::Random),
        ("auto", None) => return Ok(Init::RandomForWant(looked_for())),
        ("pretrained", None) | ("bundled", _) => {
            let backbone = model.architecture();
            return Err(Error::NoPretrained { backbone, looked_for: looked_for() });
        }
        ("auto" | "pretrained", Some(path)) => path.clone(),
        (name, _) => match catalogue::find(name) {
            Some(known) => downloaded(known.name)?,
            None => PathBuf::from(name),
        },
    };
    let report = weights::load(&path, weights::Scope::Backbone, model.parameters_mut())?;
    Ok(Init::File { path, set_aside: report.set_aside })
}

/// The model of the catalogue's that has this name, in the user's cache.
///
/// # Errors
/// [`Error::NotDownloaded`].
pub fn downloaded(name: &'static str) -> Result<PathBuf> {
    let path = cached_weights(name);
    let looked_for = path.as_ref().map_or_else(|| NO_CACHE.to_owned(), |path| path.display().to_string());
    path.filter(|path| path.is_file()).ok_or(Error::NotDownloaded { name, looked_for })
}
