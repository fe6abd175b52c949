//! From a configuration to the things that it names: model, loaders.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ff_core::Encoders;
use ff_data::transforms::{CropSpec, EraseSpec};
use ff_data::{AugmentSpec, CacheSpec, Dataset, LastBatch, Layout, Loader, LoaderConfig, Manifest, Mode};
use ff_model::{BackboneMode, DeviceSpec, FaceModel, HeadSpec, TaskLabels};

use crate::Result;
use crate::config::{CacheKind, Config};
use crate::feed::{Augmentation, BatchPlan, Feeder, Pass, check_room};

/// One head a task, sized by the encoders.
pub fn heads(encoders: &Encoders) -> Vec<HeadSpec> {
    encoders.iter().map(|(task, encoder)| HeadSpec::new(task.as_str(), encoder.n_classes())).collect()
}

/// Tasks and labels in the order of the heads, as a model file carries them.
pub fn task_labels(encoders: &Encoders) -> Vec<TaskLabels> {
    encoders.values().map(|e| TaskLabels { task: e.task().clone(), labels: e.labels().to_vec() }).collect()
}

/// The model that a configuration asks for, with seeded random values.
pub fn build_model(config: &Config, encoders: &Encoders) -> Result<FaceModel> {
    let (compute, seed) = (config.train.compute()?, config.train.seed);
    let mut model = FaceModel::new(config.model.backbone, &heads(encoders), &compute, seed)?;
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

/// Training batches for a model. The host augments for what a device's kernels do not know, and for mixup and cutmix,
/// which need two finished images at once.
pub fn train_feeder(
    config: &Config,
    manifest: Manifest,
    encoders: &Encoders,
    model: &FaceModel,
) -> Result<Feeder> {
    if config.train.device == DeviceSpec::Cpu {
        check_room(BatchPlan::of(config, Pass::Training), manifest.len())?;
    }
    let dataset = train_dataset(config, manifest, encoders)?;
    let mixes = config.data.mixup > 0.0 || config.data.cutmix > 0.0;
    let on_host = mixes || augment_spec(config).needs_host();
    let augmentation = if on_host { Augmentation::OnHost } else { Augmentation::OnDevice };
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
        check_room(BatchPlan::of(config, Pass::Evaluation), manifest.len())?;
    }
    let dataset = open(config, manifest, images, encoders, Mode::Eval)?;
    let loader_config = loader_config(config, LastBatch::Keep);
    Feeder::new(Arc::new(dataset), loader_config, model, Augmentation::OnDevice)
}

fn train_dataset(config: &Config, manifest: Manifest, encoders: &Encoders) -> Result<Dataset> {
    let mode = Mode::train(augment_spec(config), config.train.seed);
    let balance = &config.data.balance;
    let groups = (!balance.is_empty()).then(|| manifest.groups(balance)).transpose()?;
    let dataset = open(config, manifest, &config.data.images, encoders, mode)?;
    Ok(match groups {
        Some(groups) => dataset.with_balanced(groups.ids),
        None => dataset,
    })
}

/// What may be drawn for a training image.
fn augment_spec(config: &Config) -> AugmentSpec {
    let data = &config.data;
    let spec = AugmentSpec::from(data.augment)
        .with_sampling(data.sampling)
        .with_align_jitter(data.align_jitter as f32);
    AugmentSpec {
        crop: (data.resized_crop < 1.0).then_some(CropSpec { smallest: data.resized_crop }),
        trivial: data.trivial_augment,
        erase: (data.random_erasing > 0.0).then_some(EraseSpec { probability: data.random_erasing }),
        ..spec
    }
}

fn open(
    config: &Config,
    manifest: Manifest,
    images: &Path,
    encoders: &Encoders,
    mode: Mode,
) -> Result<Dataset> {
    let dataset = Dataset::open(manifest, images, encoders, mode)?.with_rules(config.data.rules());
    let dataset = dataset.with_image_size(config.data.image_size)?;
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
