//! The fingerprints of many files, made by some threads.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use ff_core::files::read_within;

use super::{
    fingerprint::{Fingerprint, Scratch},
    hash_file::{HashFile, Stamp},
};
use crate::error::{Error, Result};

/// Bytes of an image file: as much as the largest photo.
const MAX_IMAGE_LEN: u64 = 256 << 20;

/// `(N)` fingerprints of `files`, which are relative to `images`; an error in the place of a file that is missing or
/// does not decode, shared by all that name it. A file that is named several times is read once. Fingerprints that
/// `hash_file` knows are taken from it, and new ones are added to it at once; if they cannot be, that is said once and
/// the scan goes on without. `progress` is told how many are done.
///
/// # Errors
/// The process may open no more files: that is no fault of the images.
pub fn scan(
    images: &Path,
    files: &[&str],
    workers: usize,
    mut hash_file: Option<HashFile>,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Result<Fingerprint, Arc<Error>>>> {
    let mut found: Vec<Option<Result<Fingerprint, Arc<Error>>>> = files.iter().map(|_| None).collect();
    let mut todo = Vec::new();
    let mut first: HashMap<&Path, usize> = HashMap::new();
    let first_of: Vec<usize> =
        files.iter().enumerate().map(|(i, file)| *first.entry(Path::new(file)).or_insert(i)).collect();
    for (i, file) in files.iter().enumerate().filter(|&(i, _)| first_of[i] == i) {
        match Stamp::of(&images.join(file)) {
            Ok(stamp) => match hash_file.as_mut().and_then(|hashes| hashes.take(file, stamp)) {
                Some(fingerprint) => found[i] = Some(Ok(fingerprint)),
                None => todo.push((i, stamp)),
            },
            Err(error) => found[i] = Some(Err(bad_image(error.into())?)),
        }
    }
    let mut done = files.len() - todo.len();
    progress(done);

    let next = AtomicUsize::new(0);
    // Bounded, so that a slow disk for the hash file holds up the workers and not the memory.
    let (sender, receiver) = mpsc::sync_channel(64);
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            let (sender, next, todo) = (sender.clone(), &next, &todo);
            scope.spawn(move || {
                let (mut scratch, mut bytes) = (Scratch::default(), Vec::new());
                while let Some(&(i, stamp)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = read_within(&images.join(files[i]), MAX_IMAGE_LEN, &mut bytes);
                    let made = read
                        .map_err(Error::from)
                        .and_then(|()| Fingerprint::with_scratch(&bytes, &mut scratch));
                    // Nobody receives after an error: then there is nothing more to do.
                    if sender.send((i, stamp, made)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (i, stamp, made) in receiver {
            if let (Some(hashes), Ok(fingerprint)) = (&mut hash_file, &made)
                && let Err(error) = hashes.append(files[i], stamp, fingerprint)
            {
                tracing::warn!("hashes are not remembered from here on: {error}");
                hash_file = None;
            }
            found[i] = Some(match made {
                Ok(fingerprint) => Ok(fingerprint),
                Err(error) => Err(bad_image(error)?),
            });
            done += 1;
            progress(done);
        }
        let made = |&i: &usize| found[i].clone().expect("every file was read");
        Ok(first_of.iter().map(made).collect())
    })
}

/// An error that is an image's own, or else fails the scan.
fn bad_image(error: Error) -> Result<Arc<Error>> {
    if error.is_out_of_files() { Err(error) } else { Ok(Arc::new(error)) }
}
