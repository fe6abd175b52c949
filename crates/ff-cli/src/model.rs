//! Which trained model: a run, a file, or a name of the catalogue that is looked up in the user's cache.
//!
//! A name is always the name: a file or folder here that is called the same is `./NAME`. So what a command does never
//! depends on what lies in the folder that it is run in.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use ff_core::text::{list, nearest};
use ff_hub::catalogue::{self, FAIRFACE, KnownModel, MODELS, Purpose};
use ff_train::Error;
use ff_train::infer::TrainedSource;
use ff_train::run::CheckpointName;
use ff_train::weights::downloaded;

use crate::flags::recorded_path;
use crate::output::note;

/// Which trained model.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct ModelFlags {
    /// A run folder, a model file, or a name that `weights --list` shows; a file called like a name is ./NAME.
    #[arg(long, value_name = "NAME|FILE|RUN", value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,
    /// The run folder.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    run: Option<PathBuf>,
    /// Which checkpoint of the run.
    #[arg(long, value_enum, default_value_t)]
    checkpoint: CheckpointFlag,
    /// A model file instead of a run: a checkpoint's model.safetensors, or FairFace's own release.
    #[arg(long, value_name = "FILE", value_parser = recorded_path())]
    weights: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CheckpointFlag {
    /// The best mean validation accuracy.
    #[default]
    Best,
    /// The newest.
    Last,
}

impl ModelFlags {
    /// The name of the run's checkpoint, where it is not the usual one.
    pub fn other_checkpoint(&self) -> Option<&'static str> {
        match self.checkpoint {
            CheckpointFlag::Best => None,
            CheckpointFlag::Last => Some("last"),
        }
    }

    /// What is known of the model by name, where it is one of the catalogue's.
    pub fn known(&self) -> Option<&'static KnownModel> {
        match (&self.run, &self.weights, &self.model) {
            (None, None, Some(model)) => catalogue::find(model),
            (None, None, None) => Some(&FAIRFACE),
            _ => None,
        }
    }

    /// Where the model lies; [`FAIRFACE`] where no flag says it. Nothing is opened yet.
    pub fn source(&self) -> Result<TrainedSource> {
        match (&self.run, &self.weights, &self.model) {
            (Some(dir), ..) => Ok(self.of_run(dir)),
            (None, Some(file), _) => Ok(TrainedSource::Weights(file.clone())),
            (None, None, Some(model)) => match catalogue::find(model) {
                Some(known) => by_name(known),
                None => self.by_path(model),
            },
            (None, None, None) => by_name(&FAIRFACE)
                .context("no --model, --run or --weights, and so FairFace's own model is meant"),
        }
    }

    /// Whether a flag says which.
    pub fn any_said(&self) -> bool {
        self.model.is_some() || self.run.is_some() || self.weights.is_some()
    }

    /// As [`ModelFlags::source`]; `None`, with a word about it, where no flag says one and the usual one is not here.
    pub fn source_if_any(&self) -> Result<Option<TrainedSource>> {
        match self.source() {
            Ok(source) => Ok(Some(source)),
            Err(error)
                if !self.any_said() && matches!(error.downcast_ref(), Some(Error::NotDownloaded { .. })) =>
            {
                note!(
                    "no model, so faces are found and not judged: `weights {}` once gets FairFace's own, `train` makes \
                     one",
                    FAIRFACE.name
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn of_run(&self, dir: &Path) -> TrainedSource {
        let which = match self.checkpoint {
            CheckpointFlag::Best => CheckpointName::Best,
            CheckpointFlag::Last => CheckpointName::Last,
        };
        TrainedSource::Run { dir: dir.to_owned(), which }
    }

    fn by_path(&self, text: &str) -> Result<TrainedSource> {
        let path = Path::new(text);
        match fs_err::metadata(path) {
            Ok(found) if found.is_dir() => Ok(self.of_run(path)),
            Ok(_) => Ok(TrainedSource::Weights(path.to_owned())),
            Err(error) if path.components().count() > 1 || path.extension().is_some() => Err(error.into()),
            Err(_) => {
                let names = MODELS.map(|model| model.name.to_owned());
                let meant = nearest(text, MODELS.iter().map(|model| model.name));
                let meant = meant.map_or(String::new(), |name| format!(": did you mean {name}?"));
                let names = list(&names);
                let message =
                    format!("expected a name ({names}), a run folder or a model file, found {text}{meant}");
                Err(Error::Config { origin: "--model".into(), message }.into())
            }
        }
    }
}

/// A model of the catalogue's, in the user's cache.
fn by_name(known: &'static KnownModel) -> Result<TrainedSource> {
    let name = known.name;
    if known.purpose == Purpose::Backbone {
        let message = format!(
            "{name} is a backbone without heads, so there is nothing that it could say of a face; start from it with \
             `train --init {name}`, or take --model {}",
            FAIRFACE.name
        );
        return Err(Error::Config { origin: "--model".into(), message }.into());
    }
    let path = downloaded(name)?;
    note!("model   {name}, {}", path.display());
    Ok(TrainedSource::Weights(path))
}
