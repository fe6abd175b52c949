//! The configuration of a run: every key has a default, and layers override each other.
//!
//! Defaults < preset < file < flags. A layer is a TOML table; the layers are merged key by key and only then read into
//! [`Config`], so an unknown key or a wrong type is an error wherever it comes from. A resolved [`Config`] is complete:
//! written to the run folder it repeats the run.

use std::path::{Path, PathBuf};

use ff_data::{Augment, LoaderConfig, OnBadImage, Sampling, default_workers};
use ff_model::{DeviceSpec, Engine};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::losses::LossConfig;
use crate::metrics::Criterion;
use crate::optimizer::OptimizerConfig;
use crate::schedule::ScheduleConfig;
use crate::{Error, Result};

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
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
    /// What happens when an image is missing or does not decode.
    pub on_bad_image: OnBadImage,
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
    /// `auto`, `pretrained`, `random`, or a safetensors file.
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
    /// Type of activations.
    pub precision: Precision,
    /// Threads that compute.
    pub threads: usize,
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

/// Type of activations; weights and statistics are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// bfloat16 activations, for the CUDA engine to come; refused until then.
    Bf16,
}

/// A named set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// The bundled 799 faces: shows that everything works.
    #[default]
    Sample,
    /// The full data set under `data/fairface`.
    FairFace,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            splits: "data/sample/splits".into(),
            images: "data/sample/images".into(),
            batch_size: 32,
            workers: default_workers(),
            prefetch: LoaderConfig::PREFETCH,
            augment: Augment::Fast,
            sampling: Sampling::Nearest,
            on_bad_image: OnBadImage::Fail,
            cache: CacheKind::None,
            cache_dir: "cache".into(),
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { init: "auto".into(), dropout: 0.3, freeze_backbone: false, freeze_epochs: 0 }
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
            precision: Precision::F32,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { dir: None, checkpoint_steps: None, keep: 2 }
    }
}

impl Preset {
    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::FairFace => "fairface",
        }
    }

    /// What the preset changes of the defaults.
    fn layer(self) -> Table {
        let text = match self {
            Self::Sample => "",
            Self::FairFace => {
                r#"
                [data]
                splits = "data/fairface/splits"
                images = "data/fairface/images"
                batch_size = 256
                augment = "balanced"
                [model]
                init = "pretrained"
                [train]
                epochs = 12
                [optimizer]
                lr = 3e-4
                weight_decay = 0.05
                clip_norm = 1.0
                ema_decay = 0.998
                [schedule]
                kind = "cosine"
                warmup_epochs = 0.5
                "#
            }
        };
        text.parse().expect("presets are valid TOML")
    }
}

/// Layers of configuration, to be merged.
#[derive(Debug, Clone)]
pub struct ConfigBuilder {
    merged: Table,
}

impl ConfigBuilder {
    /// Starts from the defaults and a preset. Relative data paths of both are taken from `root`.
    pub fn new(preset: Preset, root: &Path) -> Self {
        let mut merged = Table::try_from(Config::default()).expect("the defaults are valid TOML");
        merge(&mut merged, preset.layer());
        let data = merged.get_mut("data").and_then(Value::as_table_mut).expect("the defaults have [data]");
        for key in ["splits", "images"] {
            let path = data.get(key).and_then(Value::as_str).expect("the defaults have both paths");
            let path = root.join(path).to_string_lossy().into_owned();
            data.insert(key.to_owned(), Value::String(path));
        }
        Self { merged }
    }

    /// Starts from a complete configuration, as a run folder holds it.
    pub fn from_config(config: &Config) -> Self {
        Self { merged: Table::try_from(config).expect("a configuration is valid TOML") }
    }

    /// Adds a file over what is there. Relative paths in it are taken from the current folder.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has an unknown key or a wrong type; the message names the file.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let origin = || path.display().to_string();
        let text = fs_err::read_to_string(path)?;
        let layer: Table = text.parse().map_err(|e: toml::de::Error| config_error(origin(), &e))?;
        merge(&mut self.merged, layer);
        read(&self.merged, &origin())?;
        Ok(self)
    }

    /// Sets one key, as `train.epochs`, if there is a value for it.
    ///
    /// # Panics
    /// The key has no section, or the value is nothing that TOML can hold: a bug of the caller.
    #[must_use]
    pub fn set<T: Serialize>(mut self, key: &str, value: Option<T>) -> Self {
        if let Some(value) = value {
            let (section, key) = key.split_once('.').expect("keys are section.key");
            let value = Value::try_from(value).expect("flags are TOML values");
            let table = self.merged.entry(section).or_insert_with(|| Table::new().into());
            table.as_table_mut().expect("sections are tables").insert(key.to_owned(), value);
        }
        self
    }

    /// The configuration, checked.
    ///
    /// # Errors
    /// A value out of range; the message names the key, what was expected and what was found.
    pub fn resolve(self) -> Result<Config> {
        let config = read(&self.merged, "configuration")?;
        check(&config)?;
        Ok(config)
    }
}

impl Config {
    /// The configuration as a TOML file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is valid TOML")
    }

    /// Reads a complete configuration, as a run folder holds it.
    ///
    /// # Errors
    /// The file cannot be read or is no complete configuration.
    pub fn read(path: &Path) -> Result<Self> {
        toml::from_str(&fs_err::read_to_string(path)?)
            .map_err(|e| config_error(path.display().to_string(), &e))
    }
}

fn read(table: &Table, origin: &str) -> Result<Config> {
    table.clone().try_into().map_err(|e| config_error(origin.to_owned(), &e))
}

fn config_error(origin: String, error: &toml::de::Error) -> Error {
    Error::Config { origin, message: error.to_string().trim_end().to_owned() }
}

fn merge(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(layer)) => merge(base, layer),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn check(config: &Config) -> Result<()> {
    let Config { data, model, train, optimizer, schedule, loss, run } = config;
    let at_least_one = |key: &str, n: u64| require(n >= 1, key, "at least 1", n);
    at_least_one("data.batch_size", data.batch_size as u64)?;
    at_least_one("data.workers", data.workers as u64)?;
    at_least_one("data.prefetch", data.prefetch as u64)?;
    at_least_one("train.epochs", train.epochs)?;
    at_least_one("train.max_steps", train.max_steps.unwrap_or(1))?;
    at_least_one("train.threads", train.threads as u64)?;
    at_least_one("train.patience", train.patience.unwrap_or(1))?;
    at_least_one("optimizer.accumulate", optimizer.accumulate as u64)?;
    at_least_one("schedule.step_epochs", schedule.step_epochs)?;
    at_least_one("run.keep", run.keep as u64)?;
    at_least_one("run.checkpoint_steps", run.checkpoint_steps.unwrap_or(1))?;
    let in_unit = |key: &str, x: f64| require((0.0..1.0).contains(&x), key, "a number in [0, 1)", x);
    in_unit("model.dropout", model.dropout)?;
    in_unit("optimizer.beta1", optimizer.beta1)?;
    in_unit("optimizer.beta2", optimizer.beta2)?;
    in_unit("optimizer.momentum", optimizer.momentum)?;
    in_unit("optimizer.ema_decay", optimizer.ema_decay.unwrap_or(0.0))?;
    in_unit("loss.effective_beta", loss.effective_beta)?;
    in_unit("loss.label_smoothing", loss.label_smoothing)?;
    let positive = |key: &str, x: f64| require(x > 0.0 && x.is_finite(), key, "a positive number", x);
    positive("optimizer.lr", optimizer.lr)?;
    positive("optimizer.eps", optimizer.eps)?;
    positive("optimizer.clip_norm", optimizer.clip_norm.unwrap_or(1.0))?;
    positive("optimizer.layer_decay", optimizer.layer_decay)?;
    positive("schedule.step_factor", schedule.step_factor)?;
    positive("schedule.peak_at", schedule.peak_at)?;
    require(schedule.peak_at < 1.0, "schedule.peak_at", "less than 1", schedule.peak_at)?;
    let not_negative =
        |key: &str, x: f64| require(x >= 0.0 && x.is_finite(), key, "a number of at least 0", x);
    not_negative("optimizer.weight_decay", optimizer.weight_decay)?;
    not_negative("optimizer.head_lr", optimizer.head_lr)?;
    not_negative("schedule.warmup_epochs", schedule.warmup_epochs)?;
    not_negative("schedule.final_factor", schedule.final_factor)?;
    not_negative("data.mixup", data.mixup)?;
    not_negative("data.cutmix", data.cutmix)?;
    for (task, &weight) in loss.weights.iter() {
        not_negative(&format!("loss.weights.{task}"), weight)?;
    }
    let f32 = train.precision == Precision::F32;
    require(f32, "train.precision", "f32, as bf16 waits for the CUDA engine", "bf16")
}

fn require(holds: bool, key: &str, expected: &str, found: impl std::fmt::Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Config { origin: key.to_owned(), message: format!("expected {expected}, found {found}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ConfigBuilder {
        ConfigBuilder::new(Preset::Sample, Path::new("repo"))
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs_err::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn later_layers_win_and_the_rest_stays() {
        let (_dir, path) = file("[train]\nepochs = 7\nseed = 1\n[optimizer]\nkind = \"sgd\"\n");
        let config =
            builder().file(&path).unwrap().set("train.epochs", Some(9)).set("train.seed", None::<u64>);
        let config = config.resolve().unwrap();
        assert_eq!((config.train.epochs, config.train.seed), (9, 1));
        assert_eq!(config.data.batch_size, DataConfig::default().batch_size);
        assert_eq!(config.data.splits, Path::new("repo/data/sample/splits"));
    }

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let config = ConfigBuilder::new(Preset::FairFace, Path::new("")).resolve().unwrap();
        let (_dir, path) = file(&config.to_toml());
        assert_eq!(Config::read(&path).unwrap(), config);
        assert_eq!(ConfigBuilder::from_config(&config).resolve().unwrap(), config);
    }

    #[test]
    fn unknown_keys_wrong_types_and_bad_values_are_named() {
        for (text, expected) in [
            ("[train]\nepoch = 3\n", "unknown field `epoch`"),
            ("[trian]\nepochs = 3\n", "unknown field `trian`"),
            ("[train]\nepochs = \"three\"\n", "invalid type: string \"three\""),
            ("[data]\naugment = \"strong\"\n", "unknown variant `strong`"),
        ] {
            let (_dir, path) = file(text);
            let message = builder().file(&path).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("config.toml"), "{text:?} gave {message}");
        }
        let message = builder().set("train.epochs", Some(0)).resolve().unwrap_err().to_string();
        assert_eq!(message, "train.epochs: expected at least 1, found 0");
        let message = builder().set("train.precision", Some("bf16")).resolve().unwrap_err().to_string();
        assert_eq!(message, "train.precision: expected f32, as bf16 waits for the CUDA engine, found bf16");
    }
}
