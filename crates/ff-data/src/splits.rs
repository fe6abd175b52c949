//! The three split CSVs of a folder, and the encoders fitted on the first.

use std::path::Path;

use ff_core::{Encoders, Schema};

use crate::{
    decisions::{Decided, Decisions},
    error::{Error, Result},
    manifest::{FilePaths, Manifest},
    split::Split,
    stratify,
};

/// Train, validation and test rows, and the encoders that the training rows fix.
#[derive(Debug, Clone)]
pub struct Splits {
    /// `ff_train.csv`.
    pub train: Manifest,
    /// `ff_val.csv`.
    pub val: Manifest,
    /// `ff_test.csv`.
    pub test: Manifest,
    /// Fitted on `train` only.
    pub encoders: Encoders,
}

impl Splits {
    /// Reads `ff_train.csv`, `ff_val.csv` and `ff_test.csv` from a folder and fits the encoders.
    ///
    /// # Errors
    /// A file is missing (the message says what was looked for and which CSVs are there), is bad as
    /// [`Manifest::read`] says, belongs to another split than the others, or the training split has no rows; in one with
    /// rows no label of a task is known. Labels of the other splits are not checked: see [`Splits::check_labels`].
    pub fn read(dir: impl AsRef<Path>, schema: &Schema) -> Result<Self> {
        Self::read_with(dir, schema, FilePaths::InsideRoot)
    }

    /// As [`Splits::read`], and says what the CSVs' files may be.
    ///
    /// # Errors
    /// As [`Splits::read`].
    pub fn read_with(dir: impl AsRef<Path>, schema: &Schema, files: FilePaths) -> Result<Self> {
        let [train, val, test] = read(dir.as_ref(), schema, files)?;
        Self::new(train, val, test)
    }

    /// As [`Splits::read_with`], with what somebody decided about the faces: the encoders are of what is left.
    ///
    /// # Errors
    /// As [`Splits::read`] and [`Decisions::apply`].
    pub fn read_decided(
        dir: impl AsRef<Path>,
        schema: &Schema,
        files: FilePaths,
        decisions: &Decisions,
    ) -> Result<(Self, Decided)> {
        let [mut train, mut val, mut test] = read(dir.as_ref(), schema, files)?;
        let decided = decisions.apply(&mut [&mut train, &mut val, &mut test])?;
        Ok((Self::new(train, val, test)?, decided))
    }

    fn new(train: Manifest, val: Manifest, test: Manifest) -> Result<Self> {
        let encoders = train.fit_encoders()?;
        for manifest in [&val, &test] {
            manifest.check_known()?;
        }
        Ok(Splits { train, val, test, encoders })
    }

    /// Checks that every label of the other splits occurs in the training split: what is trained without one cannot
    /// be evaluated on it.
    ///
    /// # Errors
    /// One does not; its row is named.
    pub fn check_labels(&self) -> Result<()> {
        [&self.val, &self.test].iter().try_for_each(|manifest| manifest.encode(&self.encoders).map(drop))
    }

    /// The rows of one split.
    pub fn get(&self, split: Split) -> &Manifest {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }
}

fn read(dir: &Path, schema: &Schema, files: FilePaths) -> Result<[Manifest; 3]> {
    stratify::check_whole(dir)?;
    let read = |split: Split| {
        let path = split.path(dir);
        if path.is_file() {
            return Manifest::read_with(path, schema, files);
        }
        Err(Error::MissingSplit { path, dir: dir.to_owned(), found: csv_files(dir) })
    };
    Ok([read(Split::Train)?, read(Split::Val)?, read(Split::Test)?])
}

/// Names of the CSV files in a folder, sorted; empty where it cannot be read. Only for an error's message.
fn csv_files(dir: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".csv")).collect();
    names.sort();
    names
}
