//! What is done of a set of crops: a file of JSON lines that grows.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use ff_core::files::{append, sha256};
use fs_err as fs;
use serde_json::{Value, json};

use super::{CROPS, CROPS_CSV, CropSpec, Entry, OldCrops};
use crate::infer::FacesWanted;
use crate::{Error, Result};

const JOURNAL: &str = "journal.jsonl";

/// The open journal of a set, which no other process writes to.
pub(super) struct Journal {
    path: PathBuf,
    entries: Vec<Entry>,
    /// Held for its lock.
    _lock: fs::File,
}

impl Journal {
    /// Opens a set's journal, or begins one.
    pub fn open(dir: &Path, spec: &CropSpec, old: OldCrops) -> Result<Self> {
        let path = dir.join(JOURNAL);
        let bad = |path: &Path, message: String| Error::BadFile { path: path.to_owned(), message };
        fs::create_dir_all(dir)?;
        if !path.exists() && fs::read_dir(dir)?.next().is_some() {
            let message = "expected an empty folder, or crops that this program began, found other files";
            return Err(bad(dir, message.to_owned()));
        }
        let lock = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        if matches!(lock.file().try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(bad(&path, "expected no other process at work here, found one".to_owned()));
        }
        let settings = settings(spec);
        let bytes = fs::read(&path)?;
        // A killed process may have left half a line.
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let first = lines.next();
        let begun: Option<Value> = first.and_then(|line| serde_json::from_slice(line).ok());
        if first.is_some() && begun.is_none() {
            return Err(bad(&path, "expected a journal of crops, found another file".to_owned()));
        }
        let (Some(first), Some(begun), OldCrops::GoOn) = (first, begun, old) else {
            for what in [dir.join(CROPS), dir.join(CROPS_CSV)] {
                if what.is_dir() {
                    fs::remove_dir_all(&what)?;
                } else if what.exists() {
                    fs::remove_file(&what)?;
                }
            }
            lock.file().set_len(0)?;
            append(&path, &format!("{settings}\n"))?;
            return Ok(Self { path, entries: Vec::new(), _lock: lock });
        };
        if begun != settings {
            return Err(Error::OtherCrops { path, differences: differences(&settings, &begun) });
        }
        let is_there = |file: &str| fs::metadata(dir.join(file)).is_ok_and(|found| found.len() > 0);
        let (mut entries, mut len) = (Vec::<Entry>::new(), first.len());
        for line in lines {
            let entry = serde_json::from_slice(line).ok();
            // After a power cut the journal may be ahead of the crops.
            let whole = entry.filter(|entry: &Entry| {
                entry.photo == entries.len() && entry.crops.iter().all(|crop| is_there(&crop.file))
            });
            let Some(entry) = whole else { break };
            entries.push(entry);
            len += line.len();
        }
        // What was not finished goes.
        lock.file().set_len(len as u64)?;
        Ok(Self { path, entries, _lock: lock })
    }

    /// What is done, a photo each, from the first on.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Notes that a photo is done.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        append(&self.path, &line(&entry))?;
        self.entries.push(entry);
        Ok(())
    }
}

fn line(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("entries are JSON") + "\n"
}

/// All that decides what is in a set; not by how many threads it is made.
fn settings(spec: &CropSpec) -> Value {
    let photos = &spec.photos;
    let inputs = photos.inputs.iter().map(|input| format!("{input:?}\n")).collect::<String>();
    let labels = format!("{:?}", spec.labels);
    let options = &photos.options;
    let search = &options.search;
    json!({
        "version": 1,
        "photos": photos.inputs.len(),
        "photos_sha256": sha256((inputs + &labels).as_bytes()),
        "one_face_a_photo": spec.labels.is_some() || options.wanted == FacesWanted::Largest,
        "size": options.image_size,
        "padding": options.padding,
        "format": spec.format,
        "min_score": search.min_score,
        "min_face": search.min_face,
        "max_faces": search.max_faces,
        "min_sharpness": options.min_sharpness,
        "max_pixels": options.rules.max_pixels,
        "max_file": options.rules.max_file,
    })
}

fn differences(expected: &Value, found: &Value) -> String {
    let fields = expected.as_object().into_iter().flatten();
    let differs = fields.filter(|(name, value)| found.get(name) != Some(value));
    let texts = differs.map(|(name, value)| format!("{name} {} instead of {value}", found[name.as_str()]));
    texts.collect::<Vec<_>>().join(", ")
}
