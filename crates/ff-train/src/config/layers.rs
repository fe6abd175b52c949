//! Presets, files and flags, merged key by key.

use std::path::Path;

use ff_core::Schema;
use ff_model::{DeviceSpec, Engine, Precision};
use serde::Serialize;
use toml::{Table, Value};

use super::check::check;
use super::{Config, file, keys};
use crate::{Error, Result};

/// The word for a precision that [`Precision::auto_for`] is to choose. No configuration holds it once it is resolved.
pub const AUTO_PRECISION: &str = "auto";

/// A named set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// The bundled 799 faces: shows that everything works.
    #[default]
    Sample,
    /// The full data set under `data/fairface`.
    FairFace,
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
            // Measured: docs/results.md, "Recipes".
            Self::Sample => {
                r#"
                [train]
                epochs = 9
                [optimizer]
                lr = 6e-4
                [schedule]
                kind = "cosine"
                warmup_epochs = 0.5
                "#
            }
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
#[derive(Debug)]
pub struct ConfigBuilder {
    merged: Table,
    /// The first value that could not be set.
    refused: Option<Error>,
}

impl ConfigBuilder {
    /// Starts from the defaults and a preset. Relative data paths of both are taken from `root`.
    pub fn new(preset: Preset, root: &Path) -> Self {
        let mut merged = defaults();
        merge(&mut merged, preset.layer());
        let data = merged.get_mut("data").and_then(Value::as_table_mut).expect("the defaults have [data]");
        for key in ["splits", "images"] {
            let path = data.get(key).and_then(Value::as_str).expect("the defaults have both paths");
            let path = root.join(path).to_string_lossy().into_owned();
            data.insert(key.to_owned(), Value::String(path));
        }
        Self { merged, refused: None }
    }

    /// Starts from a complete configuration, as a run folder holds it.
    pub fn from_config(config: &Config) -> Self {
        let mut merged = Table::try_from(config).expect("a configuration is valid TOML");
        // A precision that nobody chose follows when device or engine change.
        if config.train.precision == Precision::default_for(config.train.device, config.train.engine) {
            remove(&mut merged, "train", "precision");
        }
        Self { merged, refused: None }
    }

    /// Adds a file over what is there. Relative paths in it are taken from the current folder.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, is of a newer format, or has an unknown key or a value of the wrong kind;
    /// the message names the file and the key, and the key that was probably meant.
    pub fn file(self, path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let mut layer = file::read(path)?;
        let format = file::take_format(&mut layer, &origin)?;
        if !(1..=file::FORMAT).contains(&format) {
            let message = format!("{}: expected 1 to {}, found {format}", file::FORMAT_KEY, file::FORMAT);
            return Err(Error::Config { origin, message });
        }
        self.layer(layer, &origin)
    }

    /// Adds settings over what is there; `origin` names them in errors.
    ///
    /// # Errors
    /// As [`ConfigBuilder::file`] of what a file holds.
    pub fn layer(mut self, layer: Table, origin: &str) -> Result<Self> {
        keys::check(&layer, origin)?;
        if layer.get("data").is_some_and(|data| data.get("decisions").is_some()) {
            self.forget_decisions();
        }
        merge(&mut self.merged, layer);
        read(&self.merged, origin)?;
        Ok(self)
    }

    /// Takes decisions about the data, if there are any; their hash is [`ConfigBuilder::resolve`]'s to find.
    #[must_use]
    pub fn decisions(mut self, path: Option<&Path>) -> Self {
        if path.is_some() {
            self.forget_decisions();
        }
        self.set("data.decisions", path)
    }

    /// The hash of one file must not stand beside the name of another.
    fn forget_decisions(&mut self) {
        remove(&mut self.merged, "data", "decisions_sha256");
    }

    /// Sets one key, as `train.epochs`, if there is a value for it.
    ///
    /// # Panics
    /// The key has no section: a bug of the caller. A value that TOML cannot hold is an error of
    /// [`ConfigBuilder::resolve`].
    #[must_use]
    pub fn set<T: Serialize>(mut self, key: &str, value: Option<T>) -> Self {
        let Some(value) = value else { return self };
        let (section, name) = key.split_once('.').expect("keys are section.key");
        match Value::try_from(&value) {
            Ok(value) => {
                let table = self.merged.entry(section).or_insert_with(|| Table::new().into());
                table.as_table_mut().expect("sections are tables").insert(name.to_owned(), value);
            }
            Err(_) => {
                let found = serde_json::to_string(&value).unwrap_or_else(|e| e.to_string());
                let message = format!("expected at most {}, found {found}", i64::MAX);
                self.refused.get_or_insert(Error::Config { origin: key.to_owned(), message });
            }
        }
        self
    }

    /// Takes the tasks of a schema's file, if there is one; whatever is wrong with it is an error of
    /// [`ConfigBuilder::resolve`].
    #[must_use]
    pub fn tasks_of(mut self, schema: Option<&Path>) -> Self {
        match schema.map(read_tasks).transpose() {
            Ok(None) => {}
            Ok(Some(tasks)) => {
                let tasks = Value::try_from(tasks).expect("tasks are valid TOML");
                self.merged.insert("tasks".to_owned(), tasks);
            }
            Err(e) => {
                self.refused.get_or_insert(e);
            }
        }
        self
    }

    /// The configuration, checked.
    ///
    /// # Errors
    /// A value out of range; the message names the key, what was expected and what was found. Decisions that cannot be
    /// read.
    pub fn resolve(self) -> Result<Config> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let mut config = read(&self.merged, "configuration")?;
        check(&config)?;
        if config.data.decisions_sha256.is_none() {
            let decisions = config.read_decisions()?;
            config.data.decisions_sha256 = decisions.map(|decisions| decisions.sha256().to_owned());
        }
        Ok(config)
    }
}

/// The tasks of a schema's file: its `[[tasks]]`, whatever else it says. A run's configuration is such a file.
///
/// # Errors
/// The file cannot be read, is no TOML, or has no tasks that make a schema.
pub fn read_tasks(path: &Path) -> Result<Schema> {
    let bad = |message: String| Error::Config { origin: path.display().to_string(), message };
    let tasks = file::read(path)?.remove("tasks");
    let tasks = tasks.ok_or_else(|| bad("expected [[tasks]], each with a name, found none".to_owned()))?;
    tasks.try_into().map_err(|e: toml::de::Error| bad(e.message().to_owned()))
}

/// All keys with their defaults, but the precision, whose default depends on others: see [`read`].
fn defaults() -> Table {
    let mut defaults = Table::try_from(Config::default()).expect("the defaults are valid TOML");
    remove(&mut defaults, "train", "precision");
    defaults
}

/// Reads a run's own configuration, whichever version wrote it: keys that it lacks get their defaults, and those that
/// this version does not know are passed over with a warning.
pub(super) fn read_run(path: &Path) -> Result<Config> {
    let origin = path.display().to_string();
    let mut table = file::read(path)?;
    let format = file::take_format(&mut table, &origin)?;
    if format > file::FORMAT {
        tracing::warn!(
            "{origin}: written by a newer version: its format is {format}, this one's {}",
            file::FORMAT
        );
    }
    for key in keys::set_aside(&mut table) {
        tracing::warn!("{origin}: {key} is no key of this version, and is passed over");
    }
    keys::check(&table, &origin)?;
    let mut merged = defaults();
    merge(&mut merged, table);
    read(&merged, &origin)
}

fn read(table: &Table, origin: &str) -> Result<Config> {
    let mut table = table.clone();
    if let Some(train) = table.get_mut("train").and_then(Value::as_table_mut)
        && let Some(choose) = chooses_precision(train.get("precision"))
    {
        // What does not parse here fails below, by name.
        let get = |key: &str| train.get(key).cloned();
        let device = get("device").and_then(|device| device.try_into().ok()).unwrap_or_default();
        let engine = get("engine").and_then(|engine| engine.try_into().ok()).unwrap_or_default();
        let precision = choose(device, engine);
        train.insert("precision".to_owned(), Value::String(precision.name().to_owned()));
    }
    Config::deserialize_strictly(table)
        .map_err(|message| Error::Config { origin: origin.to_owned(), message })
}

/// How a precision that is not named is chosen: `auto` takes what this machine has, and nothing the default.
fn chooses_precision(named: Option<&Value>) -> Option<fn(DeviceSpec, Engine) -> Precision> {
    match named {
        None => Some(Precision::default_for),
        Some(value) if value.as_str() == Some(AUTO_PRECISION) => Some(Precision::auto_for),
        Some(_) => None,
    }
}

fn remove(table: &mut Table, section: &str, key: &str) {
    if let Some(section) = table.get_mut(section).and_then(Value::as_table_mut) {
        section.remove(key);
    }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::DataConfig;
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
    fn precision_follows_device_and_engine_unless_it_is_given() {
        let precision = |keys: &[(&str, &str)]| {
            let set = |builder: ConfigBuilder, &(key, value): &(&str, &str)| builder.set(key, Some(value));
            let config = keys.iter().fold(builder(), set).resolve();
            config.map(|config| config.train.precision.name()).map_err(|e| e.to_string())
        };
        let (device, engine) = (("train.device", "cuda"), ("train.engine", "reference"));
        assert_eq!(precision(&[]).unwrap(), "f32");
        assert_eq!(precision(&[device]).unwrap(), "bf16");
        assert_eq!(precision(&[device, engine]).unwrap(), "f32");
        for given in ["bf16", "f32", "tf32"] {
            assert_eq!(precision(&[device, ("train.precision", given)]).unwrap(), given);
        }
        let here = Precision::Bf16.runs_on_this_cpu();
        let refused = "expected f32 on this CPU, which has no AVX-512 BF16, found bf16";
        let expected = if here { Ok("bf16") } else { Err(format!("train.precision: {refused}")) };
        assert_eq!(precision(&[("train.precision", "bf16")]), expected);
        assert_eq!(
            precision(&[("train.precision", "tf32")]).unwrap_err(),
            "train.precision: expected f32 or bf16 on the CPU, as tf32 needs device cuda, found tf32"
        );
        let auto = ("train.precision", AUTO_PRECISION);
        assert_eq!(precision(&[auto]), Ok(if here { "bf16" } else { "f32" }));
        assert_eq!(precision(&[auto, device]).unwrap(), "bf16");
        assert_eq!(precision(&[auto, engine]).unwrap(), "f32");
        assert_eq!(
            precision(&[engine, ("train.precision", "bf16")]).unwrap_err(),
            "train.precision: expected f32 with the reference engine, found bf16"
        );
        for given in ["bf16", "tf32"] {
            let message = precision(&[device, engine, ("train.precision", given)]).unwrap_err();
            assert_eq!(
                message,
                format!("train.precision: expected f32 with the reference engine, found {given}")
            );
        }
        let message = precision(&[("train.precision", "fp8")]).unwrap_err();
        assert!(message.contains("expected bf16, f32 or tf32, found `fp8`"), "{message}");
    }

    /// A run of a GPU is evaluated on the CPU without a word about precision, unless somebody had chosen it.
    #[test]
    fn the_default_precision_of_a_run_follows_its_device() {
        let moved = |precision: Option<&str>| {
            let on_gpu = builder().set("train.device", Some("cuda")).set("train.precision", precision);
            let on_gpu = on_gpu.resolve().unwrap();
            let again =
                ConfigBuilder::from_config(&on_gpu).set("train.device", Some("cuda:1")).resolve().unwrap();
            assert_eq!(again.train.precision, on_gpu.train.precision);
            ConfigBuilder::from_config(&on_gpu).set("train.device", Some("cpu")).resolve()
        };
        assert_eq!(moved(None).unwrap().train.precision.name(), "f32");
        assert_eq!(moved(Some("f32")).unwrap().train.precision.name(), "f32");
        assert!(moved(Some("tf32")).is_err());
    }
}
