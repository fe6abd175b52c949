//! From a configuration to the things that it names: splits, loaders, model, initial weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ff_data::{
    AugmentSpec, CacheSpec, Dataset, Encoders, LabelEncoder, LastBatch, Layout, Loader, LoaderConfig,
    Manifest, Mode, PerTask, Task, user_cache,
};
use ff_model::{Architecture, BackboneMode, Compute, DeviceSpec, FaceModel, TaskLabels, weights};

use crate::batch_size::{Pass, check_room};
use crate::checkpoint::heads;
use crate::config::{CacheKind, Config};
use crate::feed::{Augmentation, Feeder};
use crate::run_dir::{RunDir, Which};
use crate::{Error, Result};

/// What to tell somebody who has no pretrained weights.
pub const HOW_TO_GET_WEIGHTS: &str = "run `fairface weights` once to download them (in the repository `cargo xtask weights`), or pass a file \
     as --init FILE, or start from random weights with --init random";

/// A model that has learnt, and the labels behind its logits.
pub struct Trained {
    /// The model.
    pub model: FaceModel,
    /// The labels, in the order of class ids.
    pub encoders: Encoders,
    /// The checkpoint's folder or the file that it came from.
    pub path: PathBuf,
}

impl Trained {
    /// Tasks and labels in the order of the heads, as a model file carries them.
    pub fn labels(&self) -> Vec<TaskLabels> {
        let tasks = self.encoders.iter();
        tasks.map(|(task, e)| TaskLabels { task: task.name().into(), labels: e.labels().to_vec() }).collect()
    }
}

/// Where a trained model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainedSource {
    /// A checkpoint of a run.
    Run {
        /// The run's folder.
        dir: PathBuf,
        /// Which checkpoint.
        which: Which,
    },
    /// A file with labels: a checkpoint's `model.safetensors`, or FairFace's own release.
    Weights(PathBuf),
}

/// Opens a trained model.
///
/// # Errors
/// There is none; a file that is damaged or holds a backbone only; labels of other tasks than age, gender, race.
pub fn open_trained(source: &TrainedSource, compute: &Compute) -> Result<Trained> {
    match source {
        TrainedSource::Run { dir, which } => {
            let checkpoint = RunDir::open(dir)?.open_checkpoint(*which)?;
            let encoders = checkpoint.state()?.encoders;
            let mut model = FaceModel::new(Architecture::default(), &heads(&encoders), compute, 0)?;
            checkpoint.load_model(&mut model)?;
            Ok(Trained { model, encoders, path: checkpoint.path().to_owned() })
        }
        TrainedSource::Weights(path) => {
            let (model, labels) = FaceModel::open(path, compute)?;
            let tasks: Vec<&str> = labels.iter().map(|t| t.task.as_str()).collect();
            if tasks != Task::ALL.map(Task::name) {
                let message = format!("expected heads for age, gender, race, found {}", tasks.join(", "));
                return Err(Error::BadFile { path: path.clone(), message });
            }
            let encoder = |task: Task| LabelEncoder::from_sorted(task, labels[task as usize].labels.clone());
            Ok(Trained { model, encoders: PerTask::try_from_fn(encoder)?, path: path.clone() })
        }
    }
}

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
    let named = std::env::var_os("FAIRFACE_WEIGHTS").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.into_iter().chain(cached_weights()).collect()
}

/// `resnet34.safetensors` in the [`user_cache`], where there is one.
pub fn cached_weights() -> Option<PathBuf> {
    Some(user_cache()?.join("resnet34.safetensors"))
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
        match places.len() {
            0 => "the file that FAIRFACE_WEIGHTS names, as neither XDG_CACHE_HOME nor HOME is set".to_owned(),
            _ => places.join(", "),
        }
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
    let mut model = FaceModel::new(
        Architecture::default(),
        &heads(encoders),
        &config.train.compute()?,
        config.train.seed,
    )?;
    if config.model.freeze_backbone {
        model.set_backbone_mode(BackboneMode::Frozen);
    }
    Ok(model)
}

/// The loader of training batches, augmented on the host.
pub fn train_loader(config: &Config, manifest: Manifest, encoders: &Encoders) -> Result<Loader> {
    let dataset = train_dataset(config, manifest, encoders)?;
    Ok(Loader::new(Arc::new(dataset), loader_config(config, LastBatch::Drop))?)
}

/// Training batches for a model. Mixup and cutmix need two finished images at once: then the host augments.
pub fn train_feeder(
    config: &Config,
    manifest: Manifest,
    encoders: &Encoders,
    model: &FaceModel,
) -> Result<Feeder> {
    if config.train.device == DeviceSpec::Cpu {
        check_room(Pass::Training, config.data.batch_size, config.data.prefetch, manifest.len())?;
    }
    let dataset = train_dataset(config, manifest, encoders)?;
    let mixes = config.data.mixup > 0.0 || config.data.cutmix > 0.0;
    let augmentation = if mixes { Augmentation::OnHost } else { Augmentation::OnDevice };
    Feeder::new(Arc::new(dataset), loader_config(config, LastBatch::Drop), model, augmentation)
}

/// Evaluation batches over a manifest for a model, every sample kept.
pub fn eval_feeder(
    config: &Config,
    manifest: Manifest,
    images: &Path,
    encoders: &Encoders,
    model: &FaceModel,
) -> Result<Feeder> {
    if config.train.device == DeviceSpec::Cpu {
        check_room(Pass::Evaluation, config.data.batch_size, config.data.prefetch, manifest.len())?;
    }
    let dataset = open(config, manifest, images, encoders, Mode::Eval)?;
    let loader_config = loader_config(config, LastBatch::Keep);
    Feeder::new(Arc::new(dataset), loader_config, model, Augmentation::OnDevice)
}

fn train_dataset(config: &Config, manifest: Manifest, encoders: &Encoders) -> Result<Dataset> {
    let spec = AugmentSpec::from(config.data.augment).with_sampling(config.data.sampling);
    let mode = Mode::train(spec, config.train.seed);
    open(config, manifest, &config.data.images, encoders, mode)
}

fn open(
    config: &Config,
    manifest: Manifest,
    images: &Path,
    encoders: &Encoders,
    mode: Mode,
) -> Result<Dataset> {
    let dataset = Dataset::open(manifest, images, encoders, mode)?.with_rules(config.data.rules());
    Ok(dataset.with_cache(&cache_spec(config))?)
}

/// Looks at the image files of all these data before anything is done with any, as `[data] on_bad_image` says, and logs
/// what it found.
///
/// # Errors
/// Bad files, counted and the first of them named; where they are skipped, nothing but bad files.
pub fn check_files(config: &Config, datasets: &[&Dataset]) -> Result<()> {
    let clock = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).max(config.data.workers);
    let check = ff_data::check_files(datasets, config.data.on_bad_image, workers, |_| {})?;
    let (files, bad) = (check.files, check.bad.len());
    tracing::info!("{files} image files looked at in {:.1} s, {bad} bad", clock.elapsed().as_secs_f64());
    for reason in &check.bad {
        tracing::warn!("to be skipped: {reason}");
    }
    Ok(())
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
