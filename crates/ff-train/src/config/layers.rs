//! Presets, files and flags, merged key by key.

use std::path::Path;

use ff_model::Precision;
use serde::Serialize;
use toml::{Table, Value};

use super::check::check;
use super::{Config, config_error};
use crate::Result;

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
        // Its default depends on what comes later: see `read`.
        remove(&mut merged, "train", "precision");
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
        let mut merged = Table::try_from(config).expect("a configuration is valid TOML");
        // A precision that nobody chose follows when device or engine change.
        if config.train.precision == Precision::default_for(config.train.device, config.train.engine) {
            remove(&mut merged, "train", "precision");
        }
        Self { merged }
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

fn read(table: &Table, origin: &str) -> Result<Config> {
    let mut table = table.clone();
    if let Some(train) = table.get_mut("train").and_then(Value::as_table_mut)
        && !train.contains_key("precision")
    {
        // What does not parse here fails below, by name.
        let get = |key: &str| train.get(key).cloned();
        let device = get("device").and_then(|device| device.try_into().ok()).unwrap_or_default();
        let engine = get("engine").and_then(|engine| engine.try_into().ok()).unwrap_or_default();
        let precision = Precision::default_for(device, engine);
        train.insert("precision".to_owned(), Value::String(precision.name().to_owned()));
    }
    table.try_into().map_err(|e| config_error(origin.to_owned(), &e))
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
        for given in ["bf16", "tf32"] {
            assert_eq!(
                precision(&[("train.precision", given)]).unwrap_err(),
                format!(
                    "train.precision: expected f32 on the CPU, as bf16 and tf32 need --device cuda, found {given}"
                )
            );
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
