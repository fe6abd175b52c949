//! The folder that a split is written to.
//!
//! Invariant: nobody else's file is lost, and no mix of two splits passes for one. All three CSVs are on the disk under
//! hidden names before the first of them gets its own, and a record beside them, [`RECORD`], has the SHA-256 of what
//! was written. The record tells a split's own files, which a later one may replace, from files that somebody made or
//! changed; and it says that a split is being put in place until it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ff_core::{
    fault::{Point, reach_path},
    files::{read_within, sha256, write_atomic},
    table::MAX_FILE_LEN,
};
use serde::{Deserialize, Serialize};

use super::SplitPlan;
use crate::{
    error::{Error, Result},
    manifest::Manifest,
    split::Split,
};

/// What was written, beside it.
const RECORD: &str = "ff_split.json";
const FORMAT: u32 = 1;
const MAX_RECORD_LEN: u64 = 1 << 16;

/// What happens to split CSVs that are in the folder and that no split wrote, or that were changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldFiles {
    /// They stay, and the folder is refused.
    Keep,
    /// They are replaced.
    Replace,
}

/// A folder that `ff_train.csv`, `ff_val.csv` and `ff_test.csv` may be written to.
#[derive(Debug)]
pub struct SplitFolder {
    dir: PathBuf,
    /// SHA-256 of the split CSVs in there.
    old: BTreeMap<String, String>,
}

/// The content of [`RECORD`].
#[derive(Debug, Serialize, Deserialize)]
struct SplitRecord {
    format: u32,
    /// Whether all files are in place.
    complete: bool,
    files: BTreeMap<String, WrittenFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenFile {
    sha256: String,
    /// SHA-256 of the file that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
}

impl SplitFolder {
    /// Makes the folder if need be and looks whether a split can be written there: to be asked before long work.
    ///
    /// # Errors
    /// It cannot be made or written to, or has CSVs of these names that are not to be replaced.
    pub fn open(dir: impl Into<PathBuf>, old_files: OldFiles) -> Result<Self> {
        let dir = dir.into();
        fs_err::create_dir_all(&dir)?;
        let record = SplitRecord::read(&dir);
        let mut old = BTreeMap::new();
        for split in Split::ALL {
            let (path, name) = (split.path(&dir), split.file_name());
            // Not `exists`: a link that leads nowhere is somebody's too.
            if std::fs::symlink_metadata(&path).is_err() {
                continue;
            }
            let found = hash_of(&path)?;
            let written = record.as_ref().and_then(|record| record.files.get(name));
            let is_ours = written.is_some_and(|w| w.sha256 == found || w.replaces.as_ref() == Some(&found));
            if !is_ours && old_files == OldFiles::Keep {
                return Err(Error::WouldReplace { path });
            }
            old.insert(name.to_owned(), found);
        }
        let path = dir.join(RECORD);
        if old_files == OldFiles::Keep && record.is_none() && path.exists() {
            return Err(Error::WouldReplace { path });
        }
        let probe = hidden(&dir.join("ff_split"));
        write_atomic(&probe, &[])?;
        fs_err::remove_file(&probe)?;
        Ok(SplitFolder { dir, old })
    }

    /// Writes the three files.
    ///
    /// # Errors
    /// They cannot be written: then the old ones are there, or the folder is refused by whoever reads it.
    ///
    /// # Panics
    /// The plan is another pool's.
    pub fn write(&self, plan: &SplitPlan, pool: &Manifest) -> Result<()> {
        let mut placed = Vec::new();
        let written = self.stage(plan, pool, &mut placed).and_then(|files| {
            self.record(false, &files)?;
            for (hidden, path) in &placed {
                reach_path(Point::Rename, path)?;
                fs_err::rename(hidden, path)?;
            }
            self.record(true, &files)
        });
        if written.is_err() {
            // A full disk is the likely cause: give the room back. The first error is the one to report.
            placed.iter().for_each(|(hidden, _)| drop(std::fs::remove_file(hidden)));
        }
        written
    }

    /// Writes the files under hidden names, which `placed` has with those that they are to get: their SHA-256.
    fn stage(
        &self,
        plan: &SplitPlan,
        pool: &Manifest,
        placed: &mut Vec<(PathBuf, PathBuf)>,
    ) -> Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        for split in Split::ALL {
            let path = split.path(&self.dir);
            // A link is followed, as every writer here does.
            let path = fs_err::canonicalize(&path).unwrap_or(path);
            let csv = plan.manifest(pool, split)?.to_csv();
            let staged = hidden(&path);
            placed.push((staged.clone(), path));
            write_atomic(&staged, &csv)?;
            files.insert(split.file_name().to_owned(), sha256(&csv));
        }
        Ok(files)
    }

    fn record(&self, complete: bool, files: &BTreeMap<String, String>) -> Result<()> {
        let files = files.iter().map(|(name, sha256)| {
            let replaces = self.old.get(name).filter(|_| !complete).cloned();
            (name.clone(), WrittenFile { sha256: sha256.clone(), replaces })
        });
        let record = SplitRecord { format: FORMAT, complete, files: files.collect() };
        let text = serde_json::to_string_pretty(&record).expect("names and hashes always serialise") + "\n";
        Ok(write_atomic(&self.dir.join(RECORD), text.as_bytes())?)
    }
}

/// Refuses a folder in which a split was stopped between one file and the next.
///
/// # Errors
/// It was.
pub(crate) fn check_whole(dir: &Path) -> Result<()> {
    // Files that a finished split wrote may have been changed since: that is their owner's business.
    let Some(record) = SplitRecord::read(dir).filter(|record| !record.complete) else { return Ok(()) };
    let all = |is: fn(&WrittenFile, &Option<String>) -> bool| {
        record.files.iter().all(|(name, written)| is(written, &hash_of(&dir.join(name)).ok()))
    };
    let (new, old) =
        (all(|written, found| found.as_ref() == Some(&written.sha256)), all(|w, found| *found == w.replaces));
    if new || old {
        return Ok(());
    }
    let reason =
        "expected three files of one split, found some of another: a split was stopped while it put them \
                  in place; split again"
            .to_owned();
    Err(Error::BadFile { path: dir.join(RECORD), reason })
}

impl SplitRecord {
    /// The folder's record; `None` where there is none that this version understands.
    fn read(dir: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        read_within(&dir.join(RECORD), MAX_RECORD_LEN, &mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|record: &Self| record.format == FORMAT)
    }
}

fn hash_of(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    read_within(path, MAX_FILE_LEN, &mut bytes)?;
    Ok(sha256(&bytes))
}

/// A hidden name beside `path` that says whose it is; what a killed split left there, the next one overwrites.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.fairface-tmp"))
}
