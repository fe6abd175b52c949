//! The file of a sweep: seeds, settings that all runs share, and alternatives.
//!
//! ```toml
//! seeds = 3                      # or [1, 7, 9]
//! baseline = "plain"             # without it the first alternative
//! [settings.train]               # sections and keys of a configuration
//! epochs = 2
//! [[alternatives]]
//! name = "plain"
//! [[alternatives]]
//! name = "averaged"
//! settings.optimizer.ema_decay = 0.99
//! [[alternatives]]
//! name = "averaged-smoothed"
//! on = "averaged"                # its settings first
//! settings.loss.label_smoothing = 0.1
//! ```

use std::path::Path;

use ff_core::text;
use serde::Deserialize;
use toml::Table;

use crate::config::{self, ConfigBuilder, Preset};
use crate::seeds::{Seeds, check_seeds};
use crate::trainer::{Change, changes};
use crate::{Config, Error, Result};

/// A sweep that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepFile {
    /// The seeds of every alternative.
    pub seeds: Vec<u64>,
    /// What the others are compared with: a place among the alternatives.
    pub baseline: usize,
    /// In the order in which they are trained.
    pub alternatives: Vec<Alternative>,
    /// Whether the weights of finished runs are kept.
    pub models: bool,
}

/// One set of settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// What it is called, and its folder.
    pub name: String,
    /// Its settings, but for seed and folder.
    pub config: Config,
    /// Its differences from the baseline.
    pub changes: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    seeds: Option<RawSeeds>,
    baseline: Option<String>,
    preset: Option<String>,
    #[serde(default = "yes")]
    models: bool,
    #[serde(default)]
    settings: Table,
    #[serde(default)]
    alternatives: Vec<RawAlternative>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawSeeds {
    Count(u64),
    List(Vec<u64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlternative {
    name: String,
    on: Option<String>,
    #[serde(default)]
    settings: Table,
}

const fn yes() -> bool {
    true
}

impl SweepFile {
    /// Reads a file. `settle` makes a configuration of its layers; presets' data lie below `root`.
    ///
    /// # Errors
    /// [`Error::Config`] of the file, and of the alternative if one is to blame, says what was expected and what was
    /// found.
    pub fn read(path: &Path, root: &Path, settle: impl Fn(ConfigBuilder) -> Result<Config>) -> Result<Self> {
        let origin = path.display().to_string();
        let bad = |message: String| Error::Config { origin: origin.clone(), message };
        let raw: Raw = config::read_table(path)?
            .try_into()
            .map_err(|e: toml::de::Error| bad(e.to_string().trim().replace('\n', ", ")))?;
        let presets = [Preset::Sample, Preset::FairFace];
        let preset = match &raw.preset {
            None => Preset::Sample,
            Some(name) => presets
                .into_iter()
                .find(|preset| preset.name() == name)
                .ok_or_else(|| bad(format!("preset: expected sample or fairface, found {name:?}")))?,
        };
        let names: Vec<&str> = raw.alternatives.iter().map(|alternative| alternative.name.as_str()).collect();
        if names.is_empty() {
            return Err(bad("expected [[alternatives]], each with a name, found none".to_owned()));
        }
        // Every alternative's layers, of which the last is its own.
        let mut layers: Vec<Vec<(&Table, String)>> = Vec::new();
        let mut configs = Vec::new();
        for (i, RawAlternative { name, on, settings }) in raw.alternatives.iter().enumerate() {
            check_name(name).map_err(bad)?;
            if names[..i].contains(&name.as_str()) {
                return Err(bad(format!("expected each alternative once, found {name} twice")));
            }
            for (section, key, decides) in [("train", "seed", "seeds"), ("run", "dir", "the sweep's folder")]
            {
                if settings.get(section).is_some_and(|section| section.get(key).is_some()) {
                    return Err(bad(format!(
                        "{name}: expected no {section}.{key}, which {decides} decides, found one"
                    )));
                }
            }
            let base = match on {
                None => vec![(&raw.settings, origin.clone())],
                Some(on) => {
                    let place = names[..i].iter().position(|name| name == on).ok_or_else(|| {
                        bad(format!("{name}: expected `on` to name an alternative before it, found {on:?}"))
                    })?;
                    layers[place].clone()
                }
            };
            let own = [base, vec![(settings, format!("{origin}: {name}"))]].concat();
            let layer = |builder: ConfigBuilder, (table, origin): &(&Table, String)| {
                builder.layer((*table).clone(), origin)
            };
            configs.push(settle(own.iter().try_fold(ConfigBuilder::new(preset, root), layer)?)?);
            layers.push(own);
        }
        let baseline = match &raw.baseline {
            None => 0,
            Some(name) => names.iter().position(|known| known == name).ok_or_else(|| {
                let known = text::either(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
                bad(format!("baseline: expected an alternative: {known}, found {name:?}"))
            })?,
        };
        let seeds = match raw.seeds {
            None => Seeds::Count(1),
            Some(RawSeeds::Count(n)) => n.to_string().parse().map_err(|e| bad(format!("seeds: {e}")))?,
            Some(RawSeeds::List(seeds)) => Seeds::List(seeds),
        };
        let seeds = seeds.from_first(configs[baseline].train.seed)?;
        check_seeds(&seeds).map_err(|message| bad(format!("seeds: {message}")))?;
        let alternative = |(name, config): (&&str, &Config)| Alternative {
            name: (*name).to_owned(),
            config: config.clone(),
            changes: changes(&configs[baseline], config),
        };
        let alternatives = names.iter().zip(&configs).map(alternative).collect();
        Ok(Self { seeds, baseline, alternatives, models: raw.models })
    }
}

/// Whether it can be a folder's name everywhere.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    if !name.is_empty() && name.len() <= 60 && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(format!("expected a name of up to 60 letters, digits, -, _, + and ., found {name:?}"))
}

#[cfg(test)]
mod tests {
    use ff_core::Order;

    use super::*;
    use crate::loss::OrderedLoss;

    fn read(text: &str) -> Result<SweepFile> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sweep.toml");
        fs_err::write(&path, text).unwrap();
        SweepFile::read(&path, Path::new("repo"), ConfigBuilder::resolve)
    }

    #[test]
    fn alternatives_have_the_common_settings_their_bases_and_their_own() {
        let sweep = read(
            "seeds = 2\nbaseline = \"b\"\n[settings.train]\nepochs = 2\nseed = 7\n[[alternatives]]\nname = \"a\"\n\
             settings.optimizer.ema_decay = 0.9\n[[alternatives]]\nname = \"b\"\non = \"a\"\nsettings.train.epochs = 3",
        )
        .unwrap();
        assert_eq!((sweep.seeds, sweep.baseline, sweep.models), (vec![7, 8], 1, true));
        let [a, b] = &sweep.alternatives[..] else { panic!("two") };
        assert_eq!((a.config.train.epochs, b.config.train.epochs), (2, 3));
        assert_eq!((a.config.optimizer.ema_decay, b.config.optimizer.ema_decay), (Some(0.9), Some(0.9)));
        let changes: Vec<_> = a.changes.iter().map(ToString::to_string).collect();
        assert_eq!((changes, b.changes.len()), (vec!["train.epochs: 3 -> 2".to_owned()], 0));
    }

    #[test]
    fn what_cannot_be_run_is_told_by_the_file_and_the_alternative() {
        let one = "[[alternatives]]\nname = \"a\"\n";
        for (text, expected) in [
            ("seeds = 2".to_owned(), "expected [[alternatives]], each with a name, found none"),
            (format!("{one}{one}"), "expected each alternative once, found a twice"),
            (format!("{one}on = \"b\""), "a: expected `on` to name an alternative before it, found \"b\""),
            (format!("baseline = \"b\"\n{one}"), "baseline: expected an alternative: a, found \"b\""),
            (
                format!("{one}settings.train.epoch = 3"),
                "a: unknown key train.epoch: did you mean train.epochs?",
            ),
            (format!("{one}settings.train.epochs = 0"), "train.epochs: expected 1 to 1000000, found 0"),
            (
                format!("{one}settings.train.seed = 7"),
                "a: expected no train.seed, which seeds decides, found one",
            ),
            (format!("seeds = [3, 3]\n{one}"), "expected each seed once, found 3 twice"),
            (format!("preset = \"full\"\n{one}"), "preset: expected sample or fairface, found \"full\""),
            (
                "[[alternatives]]\nname = \"../x\"".to_owned(),
                "expected a name of up to 60 letters, digits, -, _, + and ., found \"../x\"",
            ),
        ] {
            let found = read(&text).unwrap_err().to_string();
            assert!(found.ends_with(expected), "{text:?}\n  expected {expected}\n  found    {found}");
        }
    }

    /// An ordinal loss is refused where no task has an order, but only once a run has begun.
    #[test]
    fn the_recipes_that_are_written_down_can_be_swept() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes");
        let files = fs_err::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let sweeps = files.map(|path| SweepFile::read(&path, Path::new(""), ConfigBuilder::resolve).unwrap());
        let alternatives: Vec<_> = sweeps.flat_map(|sweep| sweep.alternatives).collect();
        let ordinal = |config: &Config| config.loss.ordered == OrderedLoss::Ordinal;
        assert!(alternatives.iter().any(|alternative| ordinal(&alternative.config)));
        for Alternative { name, config, .. } in alternatives {
            let is_ordered = config.tasks.tasks().iter().any(|task| task.order != Order::Nominal);
            assert!(!ordinal(&config) || is_ordered, "{name}: no task has an order");
        }
    }
}
