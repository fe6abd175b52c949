//! From a configuration to the things that it names: splits, loaders, model, initial weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ff_data::{
    AugmentSpec, CacheSpec, Dataset, Encoders, LastBatch, Layout, Loader, LoaderConfig, Manifest, Mode,
};
use ff_model::{BackboneMode, Compute, FaceModel, weights};

use crate::checkpoint::heads;
use crate::config::{CacheKind, Config, TrainConfig};
use crate::{Error, Result};

/// What to tell somebody who has no pretrained weights.
pub const HOW_TO_GET_WEIGHTS: &str = "download model.safetensors of timm/resnet34.tv_in1k from the Hugging Face hub and pass it as \
     --init FILE, or put it in one of these places, or start from random weights with --init random";

/// Where the initial weights came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Seeded random values, as asked.
    Random,
    /// Seeded random values, because `auto` found no file in these places.
    RandomForWant(String),
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
            Self::File { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Places where pretrained weights are looked for: `FAIRFACE_WEIGHTS`, then the user's cache.
fn pretrained_candidates() -> Vec<PathBuf> {
    let env = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = env("XDG_CACHE_HOME").or_else(|| env("HOME").map(|home| home.join(".cache")));
    let cached = cache.map(|cache| cache.join("fairface").join("resnet34.safetensors"));
    env("FAIRFACE_WEIGHTS").into_iter().chain(cached).collect()
}

/// Fills the model's backbone as `[model] init` says.
///
/// # Errors
/// [`Error::NoPretrained`], or a file that cannot be read or does not fit.
pub fn initialise(model: &mut FaceModel, init: &str) -> Result<Init> {
    let candidates = pretrained_candidates();
    let at_hand = candidates.iter().find(|path| path.is_file());
    let looked_for = || {
        let places: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        places.join(", ")
    };
    let path = match (init, at_hand) {
        ("random", _) => return Ok(Init::Random),
        ("auto", None) => return Ok(Init::RandomForWant(looked_for())),
        ("pretrained", None) => return Err(Error::NoPretrained { looked_for: looked_for() }),
        ("auto" | "pretrained", Some(path)) => path.clone(),
        (file, _) => PathBuf::from(file),
    };
    let report = weights::load(&path, weights::Scope::Backbone, model.parameters_mut())?;
    Ok(Init::File { path, set_aside: report.set_aside })
}

/// The model that a configuration asks for, with seeded random values.
pub fn build_model(config: &Config, encoders: &Encoders) -> Result<FaceModel> {
    let TrainConfig { engine, threads, seed, .. } = config.train;
    let compute = Compute { device: config.train.device.open()?, engine, threads };
    let mut model = FaceModel::new(&heads(encoders), &compute, seed)?;
    if config.model.freeze_backbone {
        model.set_backbone_mode(BackboneMode::Frozen);
    }
    Ok(model)
}

/// The loader of training batches.
pub fn train_loader(config: &Config, manifest: Manifest, encoders: &Encoders) -> Result<Loader> {
    let spec = AugmentSpec::from(config.data.augment).with_sampling(config.data.sampling);
    let mode = Mode::train(spec, config.train.seed);
    let dataset =
        Dataset::open(manifest, &config.data.images, encoders, mode)?.with_cache(&cache_spec(config))?;
    Ok(Loader::new(Arc::new(dataset), loader_config(config, LastBatch::Drop))?)
}

/// The loader of evaluation batches over a manifest, every sample kept.
pub fn eval_loader(
    config: &Config,
    manifest: Manifest,
    images: &Path,
    encoders: &Encoders,
) -> Result<Loader> {
    let dataset = Dataset::open(manifest, images, encoders, Mode::Eval)?.with_cache(&cache_spec(config))?;
    Ok(Loader::new(Arc::new(dataset), loader_config(config, LastBatch::Keep))?)
}

fn loader_config(config: &Config, last_batch: LastBatch) -> LoaderConfig {
    let data = &config.data;
    LoaderConfig {
        batch_size: data.batch_size,
        workers: data.workers,
        prefetch: data.prefetch,
        last_batch,
        layout: Layout::Planes,
        on_bad_image: data.on_bad_image,
    }
}

fn cache_spec(config: &Config) -> CacheSpec {
    match config.data.cache {
        CacheKind::None => CacheSpec::None,
        CacheKind::Memory => CacheSpec::Memory,
        CacheKind::Disk => CacheSpec::Disk(config.data.cache_dir.clone()),
    }
}
