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

use super::{
    fingerprint::{Fingerprint, Scratch},
    hash_file::{HashFile, Stamp},
};
use crate::{
    decode::{Decoding, ImageRules},
    error::{Error, Result},
    image_file,
};

/// `(N)` fingerprints of `files`, which are relative to `images`; an error in the place of a file that is missing or
/// does not decode by the `rules`, shared by all that name it. A file that is named several times is read once.
/// Fingerprints that `hash_file` knows are taken from it, and new ones are added to it at once; if they cannot be, that
/// is said once and the scan goes on without; lenient rules leave it alone. `progress` is told how many are done.
///
/// # Errors
/// Files cannot be read for a reason that is not theirs, such as too many that are open.
pub fn scan(
    images: &Path,
    files: &[&str],
    rules: &ImageRules,
    workers: usize,
    hash_file: Option<HashFile>,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Result<Fingerprint, Arc<Error>>>> {
    // What lenient rules let pass may be damaged: nobody is to take it for sound later.
    let mut hash_file = hash_file.filter(|_| rules.decoding == Decoding::Strict);
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
                    let read = image_file::read(&images.join(files[i]), rules, &mut bytes);
                    let made = read.and_then(|()| Fingerprint::with_scratch(&bytes, rules, &mut scratch));
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

/// An image's own error is a finding, any other ends the scan.
fn bad_image(error: Error) -> Result<Arc<Error>> {
    if error.is_bad_image() { Ok(Arc::new(error)) } else { Err(error) }
}
