//! Fingerprints on disk, so that a scan that was killed goes on where it was and a second one is done at once.
//!
//! Invariant: a file that is no hash file is never changed, and several processes may use one hash file at once.
//!
//! Records are appended as images are hashed, each whole and under a lock. The first record that is cut off or damaged
//! ends the file: what follows is cut away and hashed again. An entry counts for a file of the same name, length and
//! modification time only. Of several entries for a name the last counts.

use std::{
    collections::HashMap,
    io::{BufReader, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use ff_core::fault::{Point, reach_path};
use fs_err::File;

use super::fingerprint::{Fingerprint, SIDE};
use crate::{
    cache::Checksum,
    error::{Error, Result},
    rgb_image::ImageSize,
};

const MAGIC: &[u8; 8] = b"ffhash02";
/// Its records may be of images that a stricter decoder refuses: they are made anew.
const OLD_MAGIC: &[u8; 8] = b"ffhash01";
/// Length, modification time, width, height, SHA-256, thumbnail; the name follows.
const FIXED_LEN: usize = 4 * 8 + 32 + SIDE * SIDE;
/// A longer name is damage.
const MAX_NAME_LEN: usize = 1 << 16;

/// A file of fingerprints, keyed by the names that image files have in a CSV.
#[derive(Debug)]
pub struct HashFile {
    path: PathBuf,
    file: File,
    known: Known,
}

/// By name.
type Known = HashMap<String, (Stamp, Fingerprint)>;

/// What tells whether a file is still the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) len: u64,
    /// Nanoseconds since 1970; 0 where that is not known.
    modified: u64,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs_err::metadata(path)?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Stamp { len: metadata.len(), modified: modified.map_or(0, |since| since.as_nanos() as u64) })
    }
}

impl HashFile {
    /// Opens a file or makes it, and reads what is there.
    ///
    /// # Errors
    /// Something else than a hash file is there, which stays as it is; the file cannot be made, read or written, or its
    /// folder cannot be made.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Asked by name first: opening a pipe waits for its other end.
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(foreign(path, "a folder")),
            Ok(found) if !found.is_file() => return Err(foreign(path, "a pipe, socket or device")),
            _ => {}
        }
        if let Some(dir) = path.parent() {
            fs_err::create_dir_all(dir)?;
        }
        let file: File = fs_err::OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut hashes = HashFile { path: path.to_owned(), file, known: Known::new() };
        hashes.locked(HashFile::read)?;
        Ok(hashes)
    }

    /// Fingerprints that were read.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none were read.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Hands out what is known of a file, once: it need not be in memory twice.
    pub(super) fn take(&mut self, name: &str, stamp: Stamp) -> Option<Fingerprint> {
        let (_, fingerprint) = self.known.remove(name).filter(|(known, _)| *known == stamp)?;
        Some(fingerprint)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// It cannot be written; nothing of it is in the file then.
    pub(super) fn append(&mut self, name: &str, stamp: Stamp, fingerprint: &Fingerprint) -> Result<()> {
        let record = record(name, stamp, fingerprint);
        self.locked(|hashes| {
            let end = hashes.file.metadata()?.len();
            let bytes = if end == 0 { [MAGIC, &record[..]].concat() } else { record };
            let written = reach_path(Point::Write, &hashes.path).and_then(|()| hashes.file.write_all(&bytes));
            if written.is_err() {
                // Half a record would end the file for those who read it.
                let _ = hashes.file.set_len(end);
            }
            Ok(written?)
        })
    }

    /// Reads all sound records from the beginning on and cuts away what follows.
    fn read(&mut self) -> Result<()> {
        let mut magic = Vec::new();
        (&mut self.file).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        let sound_len = match &magic[..] {
            magic if magic == MAGIC => {
                let mut reader = BufReader::with_capacity(1 << 20, &mut self.file);
                let mut sound_len = MAGIC.len() as u64;
                while let Some((name, entry, len)) = read_record(&mut reader) {
                    self.known.insert(name, entry);
                    sound_len += len;
                }
                sound_len
            }
            magic if magic == OLD_MAGIC || magic.is_empty() => 0,
            other => {
                let found = format!("a file that begins with {:?}", String::from_utf8_lossy(other));
                return Err(foreign(&self.path, &found));
            }
        };
        if self.file.metadata()?.len() != sound_len {
            self.file.set_len(sound_len)?;
        }
        Ok(())
    }

    /// Does some work while no other process reads or writes the file.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        match self.file.lock() {
            // Some network file systems have none. Records are appended whole there too.
            Err(error) if error.kind() == ErrorKind::Unsupported => return work(self),
            locked => locked?,
        }
        let done = work(self);
        // It goes with the file if not now.
        let _ = self.file.unlock();
        done
    }
}

fn foreign(path: &Path, found: &str) -> Error {
    let reason = format!("expected a hash file of fairface, found {found}");
    Error::BadFile { path: path.to_owned(), reason }
}

/// Where fingerprints of an images folder are kept if nothing else is said: a file in the
/// [`user_cache`](crate::user_cache). `None` where there is no such folder.
pub fn default_hash_file(images: &Path) -> Option<PathBuf> {
    let cache = crate::user_cache()?;
    let mut sum = Checksum::new(0);
    sum.bytes(fs_err::canonicalize(images).ok()?.as_os_str().as_encoded_bytes());
    Some(cache.join(format!("hashes-{:016x}.bin", sum.finish())))
}

/// Checksum of all that follows, length of the name, fixed part, name.
fn record(name: &str, stamp: Stamp, fingerprint: &Fingerprint) -> Vec<u8> {
    let size = fingerprint.size;
    let mut body = (name.len() as u64).to_le_bytes().to_vec();
    for word in [stamp.len, stamp.modified, size.width as u64, size.height as u64] {
        body.extend(word.to_le_bytes());
    }
    body.extend(fingerprint.sha256);
    body.extend(&*fingerprint.thumbnail);
    body.extend(name.as_bytes());
    let mut record = checksum(&body).to_le_bytes().to_vec();
    record.append(&mut body);
    record
}

fn checksum(body: &[u8]) -> u64 {
    let mut sum = Checksum::new(0);
    sum.bytes(body);
    sum.finish()
}

fn read_record(reader: &mut impl Read) -> Option<(String, (Stamp, Fingerprint), u64)> {
    let mut head = [0; 16];
    reader.read_exact(&mut head).ok()?;
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    let name_len = usize::try_from(word(&head[8..])).ok().filter(|&len| len <= MAX_NAME_LEN)?;
    let mut body = head[8..].to_vec();
    body.resize(8 + FIXED_LEN + name_len, 0);
    reader.read_exact(&mut body[8..]).ok()?;
    if checksum(&body) != word(&head[..8]) {
        return None;
    }
    let (fixed, name) = body[8..].split_at(FIXED_LEN);
    let (words, rest) = fixed.split_at(32);
    let (sha256, thumbnail) = rest.split_at(32);
    let [len, modified, width, height] = std::array::from_fn(|i| word(&words[8 * i..8 * i + 8]));
    let fingerprint = Fingerprint {
        sha256: sha256.try_into().ok()?,
        size: ImageSize { width: width as usize, height: height as usize },
        thumbnail: Box::new(thumbnail.try_into().ok()?),
    };
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some((name, (Stamp { len, modified }, fingerprint), (head.len() + FIXED_LEN + name_len) as u64))
}
