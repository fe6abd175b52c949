//! Alternatives and seeds: every combination a run, one after the other, and what they come to beside a baseline.
//!
//! An alternative is a folder of several seeds, as [`train_seeds`] makes it, so a sweep that was stopped or killed
//! goes on where it was, to the same bytes; what is finished is passed over. Alternatives and seeds may be added to
//! the file; one whose settings have changed is refused, as its runs would be of two kinds.

mod answers;
mod file;
mod record;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ff_eval::Bootstrap;
use serde::Serialize;

pub use file::{Alternative, SweepFile};
pub use record::{AlternativeRecord, PairedDifference, Row, SweepRecord, SweptRun};

use crate::run::RunDir;
use crate::seeds::{SeedsDir, SeedsObserver, SeedsRecord, run_name, train_seeds};
use crate::trainer::settings;
use crate::{Error, Result};
use answers::Answers;
use record::Swept;

/// Hears what the runs do, and what they come to.
pub trait SweepObserver: SeedsObserver {
    /// The runs of an alternative come next: which one it is, from 1, and of how many.
    fn alternative(&mut self, _alternative: &Alternative, _place: usize, _of: usize) {}
    /// What there is so far was written down.
    fn swept(&mut self, _folder: &Path, _record: &SweepRecord) {}
}

/// An observer that looks away.
impl SweepObserver for () {}

/// How a sweep ended.
#[derive(Debug, Clone, Serialize)]
pub struct SweepResult {
    /// Its folder.
    pub folder: PathBuf,
    /// What it has come to.
    #[serde(flatten)]
    pub record: SweepRecord,
    /// Whether it was asked to stop.
    pub interrupted: bool,
}

/// Trains every alternative with every seed into `folder`, until all are done or until `stop` is set.
///
/// # Errors
/// A folder with other things in it; an alternative whose runs there have other settings; as
/// [`train`](crate::trainer::train). What is finished stays, and is recorded.
pub fn sweep(
    file: &SweepFile,
    folder: &Path,
    observer: &mut dyn SweepObserver,
    stop: &AtomicBool,
) -> Result<SweepResult> {
    check_folder(folder)?;
    fs_err::create_dir_all(folder)?;
    let differing = differing_settings(file);
    let of = file.alternatives.len();
    let so_far = |alternative| finished(alternative, &folder.join(&alternative.name));
    let mut swept: Vec<Swept> = file.alternatives.iter().map(so_far).collect::<Result<_>>()?;
    let record = |swept: &[Swept]| SweepRecord::new(file.baseline, &file.seeds, swept, Bootstrap::default());
    if !folder.join(SweepRecord::FILE).exists() {
        record(&swept).write(folder, &differing)?;
    }
    let (mut interrupted, mut last) = (false, None);
    for (i, alternative) in file.alternatives.iter().enumerate() {
        observer.alternative(alternative, i + 1, of);
        let seeds = seeds_dir(&folder.join(&alternative.name), &file.seeds)?;
        interrupted = train_seeds(&alternative.config, &seeds, observer, stop)?.interrupted;
        swept[i] = so_far(alternative)?;
        if !file.models {
            let mut runs = swept[i].0.runs.iter().map(|swept| seeds.run_path(swept.run.seed));
            runs.try_for_each(|run| RunDir::open(&run)?.remove_weights())?;
        }
        let record = record(&swept);
        record.write(folder, &differing)?;
        observer.swept(folder, &record);
        last = Some(record);
        if interrupted {
            break;
        }
    }
    let record = last.unwrap_or_else(|| record(&swept));
    Ok(SweepResult { folder: folder.to_owned(), record, interrupted })
}

/// What the runs of an alternative that have ended came to, as far as there are any.
fn finished(alternative: &Alternative, path: &Path) -> Result<Swept> {
    let mut swept = (nothing_of(alternative), Vec::new());
    if !path.join(SeedsRecord::FILE).exists() {
        return Ok(swept);
    }
    for run in SeedsRecord::read(path)?.runs {
        let dir = RunDir::open(&path.join(run_name(run.seed)))?;
        let run = SweptRun { seconds: dir.seconds()?, run };
        swept.1.push(Answers::of(&dir, run.figures())?);
        swept.0.runs.push(run);
    }
    Ok(swept)
}

fn nothing_of(alternative: &Alternative) -> AlternativeRecord {
    let changes = alternative.changes.iter().map(ToString::to_string).collect();
    AlternativeRecord { name: alternative.name.clone(), changes, runs: Vec::new() }
}

/// # Errors
/// It holds anything, and is no sweep.
fn check_folder(folder: &Path) -> Result<()> {
    if !folder.exists() || folder.join(SweepRecord::FILE).exists() {
        return Ok(());
    }
    match fs_err::read_dir(folder)?.next().transpose()? {
        None => Ok(()),
        Some(entry) => {
            let name = entry.file_name().to_string_lossy().into_owned();
            let message = format!("expected an empty folder, none, or one of a sweep, found {name} in it");
            Err(Error::RunDir { path: folder.to_owned(), message })
        }
    }
}

/// The folder of an alternative, which may have been begun.
fn seeds_dir(path: &Path, seeds: &[u64]) -> Result<SeedsDir> {
    if !SeedsDir::is_at(path) {
        return SeedsDir::create(Some(path), seeds);
    }
    let mut dir = SeedsDir::open(path)?;
    dir.extend(seeds)?;
    Ok(dir)
}

/// The settings that are not the same in all alternatives, with the value in each.
fn differing_settings(file: &SweepFile) -> Vec<(String, Vec<String>)> {
    let all: Vec<_> = file.alternatives.iter().map(|alternative| settings(&alternative.config)).collect();
    let mut keys: Vec<&String> = all.iter().flatten().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let values = |key: &String| {
        let of = |settings: &Vec<(String, String)>| {
            let found = settings.iter().find(|(name, _)| name == key);
            found.map_or_else(String::new, |(_, value)| value.trim_matches('"').to_owned())
        };
        all.iter().map(of).collect::<Vec<_>>()
    };
    let with_values = keys.into_iter().map(|key| (key.clone(), values(key)));
    with_values.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}
