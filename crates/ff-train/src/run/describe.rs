//! What `run.json` says of a run's data and of the weights that it began with: counts and hashes, no paths.

use ff_core::files::sha256;
use ff_core::labels::FAIRFACE_LABELS;
use ff_core::{Encoders, PerTask};
use ff_data::{Manifest, Splits};
use ff_hub::catalogue::{MODELS, RESNET34};
use ff_model::Parameters;
use ff_model::weights::backbone_sha256;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::weights::{Init, bundled};

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// What it learns from.
    pub train: SplitRecord,
    /// What chooses the best checkpoint.
    pub val: SplitRecord,
    /// What is kept for the end.
    pub test: SplitRecord,
    /// Whether tasks, labels and file names are FairFace's: no others than its own, and `train/N.jpg` or `val/N.jpg`.
    pub fairface: bool,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// Rows.
    pub rows: u64,
    /// Rows whose label is not known, a task.
    pub unknown: PerTask<u64>,
}

/// The weights that a run began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRecord {
    /// SHA-256 of their file.
    pub sha256: String,
    /// What the weights are known as.
    pub known: Option<String>,
    /// The licence that they came under, as far as it is known.
    pub licence: Option<String>,
}

impl DataRecord {
    /// Counts.
    pub fn of(splits: &Splits) -> Self {
        let Splits { train, val, test, encoders } = splits;
        let named = |manifest: &Manifest| manifest.rows().iter().all(|row| is_fairface_file(&row.file));
        Self {
            fairface: has_fairface_labels(encoders) && [train, val, test].into_iter().all(named),
            train: SplitRecord::of(train, encoders),
            val: SplitRecord::of(val, encoders),
            test: SplitRecord::of(test, encoders),
        }
    }
}

impl SplitRecord {
    fn of(manifest: &Manifest, encoders: &Encoders) -> Self {
        let unknown = |i: usize| manifest.rows().iter().filter(|row| row.labels[i].is_none()).count() as u64;
        let unknown = encoders.names().cloned().enumerate().map(|(i, task)| (task, unknown(i))).collect();
        Self { rows: manifest.len() as u64, unknown }
    }
}

impl InitRecord {
    /// Of weights that were just read into `parameters`; `None` for random ones.
    ///
    /// # Errors
    /// The file is no longer there.
    pub fn of(init: &Init, parameters: &Parameters) -> Result<Option<Self>> {
        let (sha256, known) = match init {
            Init::Random | Init::RandomForWant(_) => return Ok(None),
            Init::Bundled => (sha256(bundled::BYTES), Some(&RESNET34)),
            Init::File { path, .. } => {
                let (file, backbone) = (sha256(&fs_err::read(path)?), backbone_sha256(parameters)?);
                let known = MODELS.into_iter().find(|known| known.is(&file, &backbone));
                (file, known)
            }
        };
        Ok(Some(Self {
            sha256,
            known: known.map(|known| known.title.to_owned()),
            licence: known.map(|known| known.licence.to_owned()),
        }))
    }
}

fn has_fairface_labels(encoders: &Encoders) -> bool {
    let of = |task: &str| FAIRFACE_LABELS.iter().find(|(name, _)| *name == task).map(|(_, labels)| labels);
    encoders.iter().all(|(task, encoder)| {
        of(task.as_str()).is_some_and(|known| encoder.labels().iter().all(|label| known.contains(&&**label)))
    })
}

/// `train/N.jpg` or `val/N.jpg`, as FairFace's label files have it.
fn is_fairface_file(file: &str) -> bool {
    let number = file.strip_prefix("train/").or_else(|| file.strip_prefix("val/"));
    let number = number.and_then(|name| name.strip_suffix(".jpg"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ff_core::{Schema, Task};

    use super::*;

    fn record(schema: &Schema, csv: &str) -> DataRecord {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ff_train.csv", "ff_val.csv", "ff_test.csv"] {
            fs_err::write(dir.path().join(name), csv).unwrap();
        }
        DataRecord::of(&Splits::read(dir.path(), schema).unwrap())
    }

    #[test]
    fn the_bundled_sample_is_fairface() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample/splits");
        let found = DataRecord::of(&Splits::read(sample, &Schema::fairface()).unwrap());
        assert!(found.fairface);
        assert_eq!([&found.train, &found.val, &found.test].map(|split| split.rows), [599, 120, 80]);
        assert!(found.train.unknown.values().all(|&n| n == 0));
    }

    #[test]
    fn data_of_somebody_else_are_not_fairface_and_unknown_labels_are_counted() {
        let of_faces = |file: &str, age: &str| format!("file,age,gender,race\n{file},{age},Male,White\n");
        let fairface = Schema::fairface();
        assert!(record(&fairface, &of_faces("train/1.jpg", "0-2")).fairface);
        for (file, age) in
            [("train/1.png", "0-2"), ("photos/1.jpg", "0-2"), ("val/a.jpg", "0-2"), ("val/1.jpg", "0-3")]
        {
            assert!(!record(&fairface, &of_faces(file, age)).fairface, "{file}, {age}");
        }
        let own = Schema::new(vec![Task::new("hat"), Task::new("age")]).unwrap();
        let found =
            record(&own, "file,hat,age\nval/1.jpg,S,0-2\nval/2.jpg,,3-9\nval/3.jpg,M,\nval/4.jpg,,0-2\n");
        assert!(!found.fairface);
        assert_eq!((found.val.rows, found.val.unknown["hat"], found.val.unknown["age"]), (4, 2, 1));
    }
}
