//! Fingerprints on disk, so that a scan that was killed goes on where it was and a second one is done at once.
//!
//! Records are appended as images are hashed, each in one write. The first record that is cut off or damaged ends the
//! file: what follows is cut away and hashed again. An entry counts for a file of the same name, length and
//! modification time only. Of several entries for a name the last counts.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use fs_err::File;

use super::fingerprint::{Fingerprint, SIDE};
use crate::{cache::Checksum, error::Result, resize::ImageSize};

const MAGIC: &[u8; 8] = b"ffhash01";
/// Length, modification time, width, height, SHA-256, thumbnail; the name follows.
const FIXED_LEN: usize = 4 * 8 + 32 + SIDE * SIDE;
/// A longer name is damage.
const MAX_NAME_LEN: usize = 1 << 16;

/// A file of fingerprints, keyed by the names that image files have in a CSV.
#[derive(Debug)]
pub struct HashFile {
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
    /// It cannot be made, read or written, or its folder cannot be made.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if let Some(dir) = path.parent() {
            fs_err::create_dir_all(dir)?;
        }
        let mut file: File = fs_err::OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (known, sound_len) = read(&mut file)?;
        if file.metadata()?.len() != sound_len {
            file.set_len(sound_len)?;
        }
        if sound_len == 0 {
            file.write_all(MAGIC)?;
        }
        Ok(HashFile { file, known })
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

    pub(super) fn append(&mut self, name: &str, stamp: Stamp, fingerprint: &Fingerprint) -> Result<()> {
        Ok(self.file.write_all(&record(name, stamp, fingerprint))?)
    }
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

/// All sound records from the beginning on, and where they end.
fn read(file: &mut File) -> Result<(Known, u64)> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut known = Known::new();
    let mut magic = [0; MAGIC.len()];
    if reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
        return Ok((known, 0));
    }
    let mut sound_len = MAGIC.len() as u64;
    while let Some((name, entry, len)) = read_record(&mut reader) {
        known.insert(name, entry);
        sound_len += len;
    }
    Ok((known, sound_len))
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
