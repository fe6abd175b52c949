//! The folder that FairFace is written to: images under their names, then the label CSVs.
//!
//! Invariant: a label CSV is there only when all images that it names are on the disk. Images are written whole, so one
//! of the right length is right, and a second start keeps it. A record beside them, [`RECORD`], says where they came
//! from: a folder without it is somebody else's, and so is a CSV that it does not know.
//!
//! Which face is `train/1.jpg` the hub does not promise. The names are those that the file keeps of its images, if it
//! keeps all of them, else the row's number from 1 on; whether that is what FairFace calls them is told by evidence:
//! [`Names`].

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ff_core::files::{
    is_temporary, read_within, sha256, sweep, sync_disks, write_atomic, write_atomic_unsynced,
};
use ff_core::table::MAX_FILE_LEN;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::known::{CROPS, HEAD_ROWS, LabelFile, TRAIN, VAL};
use super::rows::{FaceFile, FaceLabels, TASKS};
use crate::OldFiles;
use crate::error::{Error, Result};

/// Where the images came from, beside them.
const RECORD: &str = "fairface.json";
const FORMAT: u32 = 1;
const MAX_RECORD_LEN: u64 = 1 << 16;

/// A folder that images and label CSVs may be written to.
#[derive(Debug)]
pub struct FaceFolder {
    dir: PathBuf,
    record: Record,
    /// Whether images that are there came from the same source.
    keep: bool,
}

/// The content of [`RECORD`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    format: u32,
    source: String,
    /// SHA-256 of every content that was written under a CSV's name, the last one last.
    #[serde(default)]
    label_files: BTreeMap<String, Vec<String>>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The training split.
    pub train: WrittenSplit,
    /// The validation split.
    pub val: WrittenSplit,
}

/// What was written of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenSplit {
    /// The label CSV.
    pub labels: PathBuf,
    /// Images, those that were there included.
    pub images: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Images that an earlier start had written.
    pub kept: u64,
    /// What the images' names are worth.
    pub names: Names,
}

/// Evidence that images have the names that FairFace gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Whether they are FairFace's, by some of what follows and against none of it. Labels belong to their images all
    /// the same.
    pub official: bool,
    /// The Parquet files keep the names.
    pub kept_by_source: bool,
    /// The label CSV, or the beginning that is known of it, is FairFace's, byte for byte; `None` where too few rows
    /// were taken.
    pub official_labels: Option<bool>,
    /// Images whose bytes and name are known.
    pub known_images: u64,
    /// Images whose bytes are known under another name.
    pub misnamed_images: u64,
}

/// A split on its way into the folder.
struct Job<'a> {
    /// `train` or `val`: the folder of its images.
    name: &'static str,
    files: &'a [FaceFile],
    limit: u64,
    official: &'a LabelFile,
}

impl FaceFolder {
    /// Makes the folder if need be and looks whether FairFace can be written there: to be asked before long work.
    /// `source` says what will be written, so that no two mix.
    ///
    /// # Errors
    /// [`Error::ForeignFolder`]: it has files that nobody said may be replaced. Or it cannot be made or written to.
    pub fn open(dir: impl Into<PathBuf>, source: &str, old_files: OldFiles) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        let foreign = |reason: String| Err(Error::ForeignFolder { path: dir.clone(), reason });
        let old = Record::read(&dir);
        let mut record = Record { format: FORMAT, source: source.to_owned(), label_files: BTreeMap::new() };
        let keep = old.as_ref().is_some_and(|old| old.source == source);
        match old {
            Some(old) if keep => record.label_files = old.label_files,
            _ if old_files == OldFiles::Replace => {}
            Some(old) => {
                return foreign(format!("expected images of {source}, found those of {}", old.source));
            }
            None => {
                if let Some(found) = foreign_file(&dir)? {
                    return foreign(format!(
                        "expected an empty folder, or one that FairFace was written to, found {found}"
                    ));
                }
            }
        }
        if old_files == OldFiles::Keep {
            for name in ["train", "val"].map(label_file) {
                let path = dir.join(&name);
                let known = record.label_files.get(&name).map_or(&[][..], Vec::as_slice);
                if path.exists() && !known.contains(&hash_of(&path)?) {
                    return foreign(format!(
                        "expected {name} as it was written there, found it changed since"
                    ));
                }
            }
        }
        record.write(&dir)?;
        for split in ["train", "val"] {
            fs::create_dir_all(dir.join(split))?;
            sweep(&dir.join(split))?;
        }
        Ok(Self { dir, record, keep })
    }

    /// Bytes of the images that are there and will be kept.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn kept_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        if self.keep {
            for split in ["train", "val"] {
                for entry in fs::read_dir(self.dir.join(split))? {
                    bytes += entry?.metadata()?.len();
                }
            }
        }
        Ok(bytes)
    }

    /// Writes the first `limit` faces of each split, as the files have them one after the other. `progress` hears how
    /// many images are done, of how many.
    ///
    /// # Errors
    /// A file is damaged, or something cannot be written. What is written stays and is kept the next time.
    pub fn write(
        mut self,
        train: &[FaceFile],
        val: &[FaceFile],
        limit: Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Written> {
        let limit = limit.unwrap_or(u64::MAX);
        let jobs = [
            Job { name: "train", files: train, limit, official: &TRAIN },
            Job { name: "val", files: val, limit, official: &VAL },
        ];
        let total = jobs.iter().map(Job::n_rows).sum();
        let mut done = 0;
        let mut written = Vec::new();
        for job in &jobs {
            let (split, csv) = self.write_images(job, &mut || {
                done += 1;
                progress(done, total);
            })?;
            written.push((label_file(job.name), split, csv));
        }
        sync_disks();
        // Known before it is there: else one that was written last would be somebody else's the next time.
        for (name, _, csv) in &written {
            let known = self.record.label_files.entry(name.clone()).or_default();
            let hash = sha256(csv);
            known.retain(|old| *old != hash);
            known.push(hash);
        }
        self.record.write(&self.dir)?;
        let [train, val] = [0, 1].map(|i| &written[i]);
        for (name, _, csv) in [train, val] {
            write_atomic(&self.dir.join(name), csv)?;
        }
        Ok(Written { train: train.1.clone(), val: val.1.clone() })
    }

    /// Writes a split's images: what came of it, and its label CSV.
    fn write_images(&self, job: &Job<'_>, progress: &mut dyn FnMut()) -> Result<(WrittenSplit, Vec<u8>)> {
        let mut rows = Vec::new();
        for (file, limit) in job.parts() {
            rows.extend(file.labels(limit)?);
        }
        let (numbers, kept_by_source) = numbers(&rows);
        let csv = label_csv(job.name, &rows, &numbers);
        let known: HashMap<&str, &str> = CROPS.iter().map(|&(name, hash)| (hash, name)).collect();
        let (mut bytes, mut kept, mut known_images, mut misnamed_images) = (0, 0, 0, 0);
        let mut numbers = numbers.iter();
        for (file, limit) in job.parts() {
            file.images(limit, &mut |_, image| {
                let number = numbers.next().expect("a file has as many images as labels");
                let name = format!("{}/{number}.jpg", job.name);
                match known.get(sha256(image).as_str()) {
                    Some(&official) if official == name => known_images += 1,
                    Some(_) => misnamed_images += 1,
                    None => {}
                }
                let path = self.dir.join(name);
                if self.keep && has_length(&path, image.len()) {
                    kept += 1;
                } else {
                    write_atomic_unsynced(&path, image)?;
                }
                bytes += image.len() as u64;
                progress();
                Ok(())
            })?;
        }
        let official_labels = job.official.begins(&csv, rows.len());
        let official = misnamed_images == 0
            && official_labels != Some(false)
            && (kept_by_source || official_labels == Some(true) || known_images > 0);
        let names = Names { official, kept_by_source, official_labels, known_images, misnamed_images };
        let labels = self.dir.join(label_file(job.name));
        Ok((WrittenSplit { labels, images: rows.len() as u64, bytes, kept, names }, csv))
    }
}

impl Job<'_> {
    fn n_rows(&self) -> u64 {
        self.parts().map(|(file, limit)| file.n_rows().min(limit)).sum()
    }

    /// The files, and how many rows of each to take.
    fn parts(&self) -> impl Iterator<Item = (&FaceFile, u64)> {
        self.files.iter().scan(self.limit, |left, file| {
            let limit = *left;
            *left = limit.saturating_sub(file.n_rows());
            (limit > 0).then_some((file, limit))
        })
    }
}

impl LabelFile {
    /// Whether a label CSV of `n_rows` rows begins as the official one, as far as that is known.
    fn begins(&self, csv: &[u8], n_rows: usize) -> Option<bool> {
        if n_rows == self.n_rows {
            return Some(sha256(csv) == self.sha256);
        }
        let ends = csv.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        // The header's end is the first.
        let (end, _) = ends.clone().nth(HEAD_ROWS)?;
        Some(sha256(&csv[..=end]) == self.head_sha256)
    }
}

impl Record {
    /// The folder's record; `None` where there is none that this version understands.
    fn read(dir: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        read_within(&dir.join(RECORD), MAX_RECORD_LEN, &mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|record: &Self| record.format == FORMAT)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("names and hashes always serialise") + "\n";
        Ok(write_atomic(&dir.join(RECORD), text.as_bytes())?)
    }
}

/// The numbers that the images are named by, and whether the rows keep them: all of them do, each another.
fn numbers(rows: &[FaceLabels]) -> (Vec<u64>, bool) {
    let number = |row: &FaceLabels| {
        let digits = row.name.as_deref()?.rsplit(['/', '\\']).next()?.strip_suffix(".jpg")?;
        let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        digits.parse::<u64>().ok().filter(|_| canonical)
    };
    let kept: Option<Vec<u64>> = rows.iter().map(number).collect();
    let is_distinct = |numbers: &Vec<u64>| {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    };
    match kept.filter(|numbers| !numbers.is_empty() && is_distinct(numbers)) {
        Some(numbers) => (numbers, true),
        None => ((1..=rows.len() as u64).collect(), false),
    }
}

/// The official form: the rows by number, `True` and `False` as Python writes them.
fn label_csv(split: &str, rows: &[FaceLabels], numbers: &[u64]) -> Vec<u8> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| numbers[i]);
    let mut csv = format!("file,{},service_test\n", TASKS.join(","));
    for i in order {
        let service_test = if rows[i].service_test { "True" } else { "False" };
        writeln!(csv, "{split}/{}.jpg,{},{service_test}", numbers[i], rows[i].labels.join(","))
            .expect("a text takes all");
    }
    csv.into_bytes()
}

fn label_file(split: &str) -> String {
    format!("fairface_label_{split}.csv")
}

/// A file of the folder that was not left by a writer that was killed.
fn foreign_file(dir: &Path) -> Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !is_temporary(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn has_length(path: &Path, len: usize) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == len as u64)
}

fn hash_of(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    read_within(path, MAX_FILE_LEN, &mut bytes)?;
    Ok(sha256(&bytes))
}
