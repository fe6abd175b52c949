//! Whether the images of a run are there and are images, told before it begins.
//!
//! Every file's kind, length and header are looked at, by several threads; nothing is decoded, so that damage further
//! on shows only when it is. 100,000 files take seconds.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::{
    dataset::Dataset,
    error::{Error, Result},
    image_file,
    loader::OnBadImage,
};

/// Bad files that an error names.
const NAMED: usize = 20;

/// What a check of files found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// Files looked at.
    pub files: usize,
    /// Messages about those that cannot be used, in the order of the rows.
    pub bad: Vec<String>,
}

/// Looks at the files of all samples with some threads. Images in a dataset's cache need only be there. `progress` is
/// told by any thread how many are done.
///
/// # Errors
/// Bad files, counted and the first of them named: any, or with [`OnBadImage::Skip`] all of a dataset's. At once: an
/// error of the system, such as too many open files.
pub fn check_files(
    datasets: &[&Dataset],
    policy: OnBadImage,
    workers: usize,
    progress: impl Fn(usize) + Sync,
) -> Result<FileCheck> {
    let mut check = FileCheck { files: 0, bad: Vec::new() };
    for dataset in datasets {
        let bad = bad_files(dataset, workers, |done| progress(check.files + done))?;
        check.files += dataset.len();
        let none_left = bad.len() == dataset.len();
        check.bad.extend(bad);
        if policy == OnBadImage::Skip && none_left {
            return Err(bad_images(check));
        }
    }
    if policy == OnBadImage::Fail && !check.bad.is_empty() {
        return Err(bad_images(check));
    }
    Ok(check)
}

fn bad_images(check: FileCheck) -> Error {
    let FileCheck { files, bad } = check;
    Error::BadImages { bad: bad.len(), files, first: bad.into_iter().take(NAMED).collect() }
}

fn bad_files(dataset: &Dataset, workers: usize, progress: impl Fn(usize) + Sync) -> Result<Vec<String>> {
    /// Files that a thread takes at once.
    const CHUNK: usize = 64;
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let bad = Mutex::new(Vec::new());
    let work = || {
        let mut bytes = Vec::new();
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= dataset.len() || failed.load(Ordering::Relaxed) {
                return;
            }
            let end = (first + CHUNK).min(dataset.len());
            for sample_idx in first..end {
                if let Err(error) = check(dataset, sample_idx, &mut bytes) {
                    failed.fetch_or(!error.is_bad_image(), Ordering::Relaxed);
                    bad.lock().unwrap_or_else(PoisonError::into_inner).push((sample_idx, error));
                }
            }
            progress(end);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let mut bad: Vec<(usize, Error)> = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort_by_key(|(sample_idx, _)| *sample_idx);
    if let Some(of_the_system) = bad.iter().position(|(_, error)| !error.is_bad_image()) {
        return Err(bad.swap_remove(of_the_system).1);
    }
    Ok(bad.into_iter().map(|(_, error)| error.to_string()).collect())
}

fn check(dataset: &Dataset, sample_idx: usize, bytes: &mut Vec<u8>) -> Result<()> {
    let path: PathBuf = dataset.image_path(sample_idx);
    let checked = if dataset.cache().is_some_and(|cache| cache.has(sample_idx)) {
        fs_err::metadata(path).map(drop).map_err(Error::Io)
    } else {
        image_file::check(&path, dataset.rules(), bytes)
    };
    checked.map_err(|error| dataset.image_error(sample_idx, error))
}
