//! FairFace as the hub has it: one row a face, with the image's bytes, three class ids and `service_test`.
//!
//! What a class id means is taken from the file's own metadata, where the hub's `datasets` library leaves it; the order
//! there is not that of FairFace's models. Names are brought into the spelling of the official label files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ff_core::text::{either, shortened};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::parquet::{ColumnType, ParquetFile, Value};

/// Bytes of a face's image: the largest of FairFace have some 100 KB.
const MAX_IMAGE: usize = 16 << 20;

/// The columns of labels, in the order of the official files.
pub(super) const TASKS: [&str; 3] = ["age", "gender", "race"];
/// Their labels as the official files spell them.
const OFFICIAL: [&[&str]; 3] = [
    &["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"],
    &["Male", "Female"],
    &["East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian"],
];

/// A Parquet file of faces.
#[derive(Debug)]
pub struct FaceFile {
    path: PathBuf,
    file: ParquetFile,
    /// A task's labels by class id.
    classes: [Vec<&'static str>; 3],
}

/// What a row says of its face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceLabels {
    /// Age, gender and race.
    pub labels: [&'static str; 3],
    /// Whether it is of the subset that FairFace's authors balanced in gender and race.
    pub service_test: bool,
    /// The name that the image had, if the file keeps it.
    pub name: Option<String>,
}

/// What the `datasets` library notes of a file: `{"info": {"features": {COLUMN: {"_type": ..., "names": [...]}}}}`.
#[derive(Deserialize)]
struct Note {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    features: BTreeMap<String, serde_json::Value>,
}

impl FaceFile {
    /// Opens a file and reads what its class ids mean.
    ///
    /// # Errors
    /// It is no Parquet file, does not say what its class ids mean, or has labels that are not FairFace's.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = ParquetFile::open(&path)?;
        let bad = |reason: String| Error::BadFile { path: path.clone(), reason };
        let note = file.note("huggingface").ok_or_else(|| {
            bad("expected class names under \"huggingface\" in its metadata, found no such entry".to_owned())
        })?;
        let note: Note =
            serde_json::from_str(note).map_err(|e| bad(format!("metadata \"huggingface\": {e}")))?;
        let mut classes = [const { Vec::new() }; 3];
        for ((task, official), classes) in TASKS.into_iter().zip(OFFICIAL).zip(&mut classes) {
            let feature = note.info.features.get(task);
            let names = feature.and_then(|feature| feature.get("names")?.as_array());
            let names = names.ok_or_else(|| {
                bad(format!("metadata \"huggingface\": expected class names of {task}, found none"))
            })?;
            for name in names {
                let label =
                    name.as_str().and_then(|name| official_label(official, name)).ok_or_else(|| {
                        let official: Vec<_> = official.iter().map(|&label| label.to_owned()).collect();
                        let found = shortened(&name.to_string());
                        bad(format!("class names of {task}: expected {}, found {found}", either(&official)))
                    })?;
                if classes.contains(&label) {
                    return Err(bad(format!(
                        "class names of {task}: expected each once, found {label} twice"
                    )));
                }
                classes.push(label);
            }
        }
        Ok(Self { path, file, classes })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows in it.
    pub fn n_rows(&self) -> u64 {
        self.file.n_rows()
    }

    /// The labels of the first `limit` rows.
    ///
    /// # Errors
    /// The file is damaged, or a row has no label or an id that stands for none.
    pub fn labels(&self, limit: u64) -> Result<Vec<FaceLabels>> {
        let unlabelled = FaceLabels { labels: [""; 3], service_test: false, name: None };
        let mut rows = vec![unlabelled; self.n_rows().min(limit) as usize];
        for (i, task) in TASKS.into_iter().enumerate() {
            let classes = &self.classes[i];
            self.file.values(task, ColumnType::Int, limit, &mut |row, value| {
                let id = match value {
                    Some(Value::Int(id)) => Some(id),
                    _ => None,
                };
                let label = id.and_then(|id| classes.get(usize::try_from(id).ok()?));
                rows[row as usize].labels[i] = label.ok_or_else(|| {
                    let found = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                    self.bad_row(
                        row,
                        format!("{task}: expected an id below {}, found {found}", classes.len()),
                    )
                })?;
                Ok(())
            })?;
        }
        self.file.values("service_test", ColumnType::Bool, limit, &mut |row, value| {
            let Some(Value::Bool(value)) = value else {
                return Err(self.bad_row(row, "service_test: expected true or false, found none".to_owned()));
            };
            rows[row as usize].service_test = value;
            Ok(())
        })?;
        if self.file.columns().any(|column| column == "image.path") {
            self.file.values("image.path", ColumnType::Bytes, limit, &mut |row, value| {
                if let Some(Value::Bytes(name)) = value {
                    rows[row as usize].name = std::str::from_utf8(name).ok().map(str::to_owned);
                }
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// Hands the bytes of the first `limit` rows' images to `each`, as they are, with the row's index.
    ///
    /// # Errors
    /// The file is damaged, an image is missing, too large or no JPEG; or what `each` says.
    pub fn images(&self, limit: u64, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];
        self.file.values("image.bytes", ColumnType::Bytes, limit, &mut |row, value| {
            let Some(Value::Bytes(bytes)) = value else {
                return Err(self.bad_row(row, "image: expected a JPEG, found none".to_owned()));
            };
            if !bytes.starts_with(&JPEG) {
                let found = &bytes[..bytes.len().min(JPEG.len())];
                let reason =
                    format!("image: expected a JPEG, found {} bytes that begin {found:02x?}", bytes.len());
                return Err(self.bad_row(row, reason));
            }
            if bytes.len() > MAX_IMAGE {
                let reason = format!("image: expected at most {MAX_IMAGE} bytes, found {}", bytes.len());
                return Err(self.bad_row(row, reason));
            }
            each(row, bytes)
        })
    }

    fn bad_row(&self, row: u64, reason: String) -> Error {
        Error::BadFile { path: self.path.clone(), reason: format!("row {row}: {reason}") }
    }
}

/// The official label that a name means: case and underscores do not count.
fn official_label(official: &[&'static str], name: &str) -> Option<&'static str> {
    let plain = |name: &str| name.trim().to_lowercase().replace('_', " ");
    official.iter().copied().find(|label| plain(label) == plain(name))
}
