//! The configuration of a run: every key has a default, and layers override each other.
//!
//! Defaults < preset < file < flags. A layer is a TOML table; the layers are merged key by key and only then read into
//! [`Config`], so a bad value is an error wherever it comes from, and an unknown key is one in what a user writes. A
//! resolved [`Config`] is complete: written to the run folder it repeats the run. Later versions read it too.

mod check;
mod criterion;
mod file;
mod keys;
mod layers;
pub mod ranges;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ff_core::Schema;
use ff_data::{
    Augment, Decisions, Decoding, FilePaths, ImageRules, LoaderConfig, Manifest, OnBadImage, Sampling, Split,
    Splits, default_workers,
};
use ff_model::{Architecture, Compute, DeviceSpec, Engine, Precision};
use serde::{Deserialize, Serialize};

pub use criterion::Criterion;
pub(crate) use file::read as read_table;
pub use layers::{AUTO_PRECISION, ConfigBuilder, Preset, read_tasks};

use crate::loss::LossConfig;
use crate::optim::OptimizerConfig;
use crate::optim::schedule::ScheduleConfig;
use crate::ranks::ReduceDtype;
use crate::{Error, Result};

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is predicted: `[[tasks]]`, in the order of heads and tables.
    #[serde(default)]
    pub tasks: Schema,
    /// What to train on.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// How long, where, from which seed.
    pub train: TrainConfig,
    /// How parameters move.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes over the run.
    pub schedule: ScheduleConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// Where results go.
    pub run: RunConfig,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folder with `ff_train.csv`, `ff_val.csv` and `ff_test.csv`.
    pub splits: PathBuf,
    /// Folder that the CSVs' `file` column is relative to.
    pub images: PathBuf,
    /// Whether the CSVs may name files outside that folder.
    #[serde(default)]
    pub outside_root: bool,
    /// A CSV of what somebody decided about the faces, as [`Decisions`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions: Option<PathBuf>,
    /// SHA-256 of that file, which must not be another later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions_sha256: Option<String>,
    /// Height and width that images are resized to, in pixels.
    #[serde(default = "default_image_size")]
    pub image_size: usize,
    /// Images in a training or evaluation batch.
    pub batch_size: usize,
    /// Threads that decode and augment.
    pub workers: usize,
    /// Batches made ahead.
    pub prefetch: usize,
    /// What augmentation draws from.
    pub augment: Augment,
    /// How rotation and affine maps look up pixels.
    pub sampling: Sampling,
    /// How far crops are turned, scaled and shifted as a face detector's are, 0 to 1; 0 is not at all.
    #[serde(default)]
    pub align_jitter: f64,
    /// Smallest share of an image that a random resized crop takes; 1 is no such crop.
    #[serde(default = "whole")]
    pub resized_crop: f64,
    /// Whether one operation of TrivialAugment changes each image.
    #[serde(default)]
    pub trivial_augment: bool,
    /// Probability that a part of an image is blanked.
    #[serde(default)]
    pub random_erasing: f64,
    /// Columns, tasks or others, whose groups an epoch visits alike; none is every sample once.
    #[serde(default)]
    pub balance: Vec<String>,
    /// What happens when an image is missing or does not decode.
    pub on_bad_image: OnBadImage,
    /// Longest image file, in MiB.
    #[serde(default = "default_max_file_mib")]
    pub max_file_mib: u64,
    /// Most pixels of an image, as its header claims them.
    #[serde(default = "default_max_pixels")]
    pub max_pixels: u64,
    /// Whether a damaged JPEG is an error.
    #[serde(default)]
    pub decode: Decoding,
    /// Where decoded images are kept for the next epoch.
    pub cache: CacheKind,
    /// The folder of the disk cache.
    pub cache_dir: PathBuf,
    /// `alpha` of mixup; 0 is none.
    pub mixup: f64,
    /// `alpha` of cutmix; 0 is none.
    pub cutmix: f64,
}

/// Where decoded images are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheKind {
    /// Nowhere.
    #[default]
    None,
    /// In memory, for this run.
    Memory,
    /// In a file, for later runs too.
    Disk,
}

impl CacheKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::None, Self::Memory, Self::Disk];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// `resnet18` or `resnet34`.
    #[serde(default)]
    pub backbone: Architecture,
    /// `auto`, `pretrained`, `bundled`, `random`, a name of the catalogue, or a safetensors file.
    pub init: String,
    /// Dropout rate after the shared projection.
    pub dropout: f64,
    /// Whether only the projection and the heads learn.
    pub freeze_backbone: bool,
    /// For how many epochs, from the first, the backbone is frozen so.
    pub freeze_epochs: u64,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: u64,
    /// Stop after this many optimiser steps, wherever the epoch is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// What the best epoch is best at.
    pub criterion: Criterion,
    /// Stop after this many epochs without a better one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// What happens when a loss or gradient is not finite.
    pub on_non_finite: OnNonFinite,
    /// Decides initial values, order, augmentation and dropout.
    pub seed: u64,
    /// `cpu` or `cuda[:i]`.
    pub device: DeviceSpec,
    /// Which execution of the network.
    pub engine: Engine,
    /// What activations are computed in: by default bf16 for the fast engine on CUDA, else f32. A file may say `auto`.
    pub precision: Precision,
    /// Threads that compute.
    pub threads: usize,
    /// What gradients are on their way between ranks.
    #[serde(default)]
    pub reduce_dtype: ReduceDtype,
}

/// `[run]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The run folder; without it a new numbered one under `runs/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// A checkpoint after every so many steps, besides those at the ends of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_steps: Option<u64>,
    /// How many checkpoints are kept, the newest first; the best one is kept besides.
    pub keep: usize,
}

/// What happens when a loss or gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNonFinite {
    /// The run stops with an error.
    #[default]
    Stop,
    /// The step changes nothing; ten such steps in a row stop the run even so.
    Skip,
}

const fn default_image_size() -> usize {
    224
}

const fn whole() -> f64 {
    1.0
}

const fn default_max_file_mib() -> u64 {
    ImageRules::MAX_FILE_MIB
}

const fn default_max_pixels() -> u64 {
    ImageRules::MAX_PIXELS
}

impl DataConfig {
    /// What image files may be.
    pub fn rules(&self) -> ImageRules {
        ImageRules {
            max_file: self.max_file_mib.saturating_mul(1 << 20),
            max_pixels: self.max_pixels,
            decoding: self.decode,
        }
    }

    fn files(&self) -> FilePaths {
        if self.outside_root { FilePaths::Anywhere } else { FilePaths::InsideRoot }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            splits: "data/sample/splits".into(),
            images: "data/sample/images".into(),
            outside_root: false,
            decisions: None,
            decisions_sha256: None,
            image_size: default_image_size(),
            batch_size: 32,
            workers: default_workers(),
            prefetch: LoaderConfig::PREFETCH,
            augment: Augment::Fast,
            sampling: Sampling::Nearest,
            align_jitter: 0.0,
            resized_crop: whole(),
            trivial_augment: false,
            random_erasing: 0.0,
            balance: Vec::new(),
            on_bad_image: OnBadImage::Fail,
            max_file_mib: default_max_file_mib(),
            max_pixels: default_max_pixels(),
            decode: Decoding::default(),
            cache: CacheKind::None,
            cache_dir: "cache".into(),
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            backbone: Architecture::default(),
            init: "auto".into(),
            dropout: 0.3,
            freeze_backbone: false,
            freeze_epochs: 0,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 5,
            max_steps: None,
            criterion: Criterion::default(),
            patience: None,
            on_non_finite: OnNonFinite::default(),
            seed: 42,
            device: DeviceSpec::Cpu,
            engine: Engine::default(),
            precision: Precision::default_for(DeviceSpec::Cpu, Engine::default()),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            reduce_dtype: ReduceDtype::default(),
        }
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { dir: None, checkpoint_steps: None, keep: 2 }
    }
}

impl TrainConfig {
    /// Opens the device, to compute there as asked.
    ///
    /// # Errors
    /// There is no such device.
    pub fn compute(&self) -> Result<Compute> {
        let Self { engine, threads, precision, .. } = *self;
        Ok(Compute { device: self.device.open()?, engine, threads, precision })
    }
}

impl Config {
    /// The three splits under the decisions about them, checked.
    ///
    /// # Errors
    /// As [`Splits::read`] and [`Decisions::apply`] say; decisions that are not those that the configuration was made
    /// with.
    pub fn read_splits(&self) -> Result<Splits> {
        let DataConfig { splits, decisions_sha256, .. } = &self.data;
        let Some(decisions) = self.read_decisions()? else {
            return Ok(Splits::read_with(splits, &self.tasks, self.data.files())?);
        };
        if decisions_sha256.as_ref().is_some_and(|sha256| sha256 != decisions.sha256()) {
            let (expected, found) = (decisions_sha256.as_deref().unwrap_or_default(), decisions.sha256());
            let message = format!(
                "expected the decisions that were taken before, of SHA-256 {expected}, found {found}"
            );
            return Err(Error::BadFile { path: decisions.path().to_owned(), message });
        }
        let (splits, decided) = Splits::read_decided(splits, &self.tasks, self.data.files(), &decisions)?;
        let (path, n) = (decisions.path().display(), decisions.rows().len());
        tracing::info!(
            "{path}: {n} decisions: {} rows dropped, {} relabelled",
            decided.dropped,
            decided.relabelled
        );
        Ok(splits)
    }

    /// One of the splits that [`Config::read_splits`] reads.
    ///
    /// # Errors
    /// As [`Manifest::read`] says, and with decisions as [`Config::read_splits`].
    pub fn read_split(&self, split: Split) -> Result<Manifest> {
        match self.data.decisions {
            None => self.read_manifest(&split.path(&self.data.splits)),
            Some(_) => Ok(self.read_splits()?.get(split).clone()),
        }
    }

    /// The decisions about the data, where there are any.
    ///
    /// # Errors
    /// As [`Decisions::read`] says.
    pub fn read_decisions(&self) -> Result<Option<Decisions>> {
        let read = |path| Decisions::read(path, &self.tasks);
        Ok(self.data.decisions.as_ref().map(read).transpose()?)
    }

    /// A CSV whose files are in the images folder.
    ///
    /// # Errors
    /// As [`Manifest::read`] says.
    pub fn read_manifest(&self, csv: &Path) -> Result<Manifest> {
        Ok(Manifest::read_with(csv, &self.tasks, self.data.files())?)
    }

    /// The configuration as a TOML file.
    pub fn to_toml(&self) -> String {
        let keys = toml::to_string_pretty(self).expect("a configuration is valid TOML");
        format!("{} = {}\n\n{keys}", file::FORMAT_KEY, file::FORMAT)
    }

    /// Reads a run's own configuration, of this version or an older one: missing keys have their defaults. Keys of
    /// another version are passed over with a warning.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has a value that cannot be used.
    pub fn read(path: &Path) -> Result<Self> {
        layers::read_run(path)
    }

    /// From a table with every key and no other; the error names the key.
    fn deserialize_strictly(table: toml::Table) -> Result<Self, String> {
        table.try_into().map_err(|e: toml::de::Error| {
            // The second line is "in `section.key`".
            let text = e.to_string();
            let key = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
            key.map_or_else(|| e.message().to_owned(), |key| format!("{key}: {}", e.message()))
        })
    }
}
