//! A set of predictions that a command works on: of a run, of a record of an evaluation, or anybody's from a file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ff_core::Encoders;
use ff_eval::{Predictions, SchemaFile, Side, read_predictions};

use super::evaluate::{self, SplitFlag, SplitOfRun, tell_join};
use crate::flags::recorded_path;
use crate::inference::PaceFlags;

/// How files of predictions are read.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct FileFlags {
    /// The labels of files of predictions [default: they have labels of their own, as --per-sample writes them].
    #[arg(long, value_name = "CSV", value_parser = recorded_path())]
    labels: Option<PathBuf>,
    /// A TOML file of `[[tasks]]` and spellings for files of predictions, as `evaluate` takes it.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

/// What all files of predictions are read with.
pub struct Files {
    labels: Option<PathBuf>,
    schema: Option<SchemaFile>,
}

impl FileFlags {
    /// Reads the schema, once for all sides.
    pub fn read(&self) -> Result<Files> {
        let schema = self.schema.as_deref().map(SchemaFile::read).transpose()?;
        Ok(Files { labels: self.labels.clone(), schema })
    }
}

/// A side before a model has run.
pub enum Opened {
    Run(Box<SplitOfRun>),
    File(Judged),
}

/// What a side predicts.
pub struct Judged {
    pub predictions: Predictions,
    pub encoders: Encoders,
}

impl Opened {
    /// Reads all that there is to read of a side.
    pub fn open(path: &Path, split: SplitFlag, files: &Files, pace: &PaceFlags) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Run(Box::new(SplitOfRun::open(path, split, pace)?)));
        }
        let samples = samples_of(path)?;
        let labels = files.labels.as_deref().filter(|_| samples == path).unwrap_or(&samples);
        let schema = match &files.schema {
            Some(schema) => schema.clone(),
            None => SchemaFile { schema: evaluate::tasks_of(path)?, ..SchemaFile::default() },
        };
        let found = read_predictions(&samples, labels, &schema)
            .with_context(|| format!("{}: expected predictions and their labels", path.display()))?;
        tell_join(&found.join);
        Ok(Self::File(Judged { predictions: found.predictions, encoders: found.encoders }))
    }

    pub fn encoders(&self) -> &Encoders {
        match self {
            Self::Run(run) => run.encoders(),
            Self::File(judged) => &judged.encoders,
        }
    }

    /// What its samples can be grouped by beside the tasks.
    pub fn attributes(&self) -> Vec<String> {
        match self {
            Self::Run(run) => run.extra_columns().to_vec(),
            Self::File(judged) => {
                judged.predictions.attributes.iter().map(|column| column.name.clone()).collect()
            }
        }
    }

    /// What it predicts, with those of these columns that it has.
    pub fn judge(self, columns: &[String]) -> Result<Judged> {
        let mut known = self.attributes();
        match self {
            Self::Run(run) => {
                known.retain(|name| columns.contains(name));
                let (predictions, encoders) = run.predict(&known)?;
                Ok(Judged { predictions, encoders })
            }
            Self::File(judged) => Ok(judged),
        }
    }
}

impl Judged {
    pub fn side<'a>(&'a self, name: &'a str) -> Side<'a> {
        Side { name, predictions: &self.predictions, encoders: &self.encoders }
    }
}

/// The table of samples that a path stands for: that beside a record of an evaluation, or the file itself.
fn samples_of(path: &Path) -> Result<PathBuf> {
    if !evaluate::is_record(path)? {
        return Ok(path.to_owned());
    }
    let samples = path.with_extension("csv");
    if !samples.is_file() {
        bail!(
            "{}: expected the evaluation's samples in {}, found no such file; `evaluate` writes it anew",
            path.display(),
            samples.display()
        );
    }
    Ok(samples)
}
