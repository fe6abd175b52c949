//! Decoded images kept for the next epoch: 150,528 bytes each at 224 x 224, in memory or in one file on a disk.
//!
//! Filled as images are decoded for the first time; which are there changes the speed and nothing else. What is kept
//! is the resized u8 image before augmentation, so that every epoch augments anew.
//!
//! A cache belongs to a list of files with their lengths, modification times and faces, and to an image size: its
//! identity.
//! A changed file makes another cache. Its size is worked out before it is made, and refused where there is no room.

mod checksum;
mod disk;
mod room;

use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::UNIX_EPOCH,
};

use crate::{
    dataset::Dataset,
    decode::Decoding,
    error::{Error, Result},
};
pub(crate) use checksum::Checksum;
use disk::DiskCache;

/// Where decoded images are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CacheSpec {
    /// Nowhere: every epoch decodes.
    #[default]
    None,
    /// In this process's memory.
    Memory,
    /// In a file in this folder, for later runs too.
    Disk(PathBuf),
}

/// Decoded images of a dataset.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    image_len: usize,
    n_images: usize,
    kept: AtomicUsize,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<OnceLock<Box<[u8]>>>),
    Disk(DiskCache),
}

impl Cache {
    /// Opens or makes the cache of a dataset; `None` if none is wanted.
    pub(crate) fn open(spec: &CacheSpec, dataset: &Dataset) -> Result<Option<Self>> {
        let (n_images, image_len) = (dataset.len(), dataset.image_len());
        let (store, kept) = match spec {
            CacheSpec::None => return Ok(None),
            CacheSpec::Memory => {
                room::memory((n_images * image_len) as u64)?;
                (Store::Memory((0..n_images).map(|_| OnceLock::new()).collect()), 0)
            }
            CacheSpec::Disk(dir) => {
                let disk = DiskCache::open(dir, identity(dataset)?, n_images, image_len)?;
                let kept = disk.kept();
                (Store::Disk(disk), kept)
            }
        };
        Ok(Some(Cache { store, image_len, n_images, kept: AtomicUsize::new(kept) }))
    }

    /// Bytes of all images together.
    pub fn bytes(&self) -> u64 {
        (self.n_images * self.image_len) as u64
    }

    /// Images that are there.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Why nothing is written any more, if so: the disk ran full, say. Training goes on without.
    pub fn write_error(&self) -> Option<String> {
        match &self.store {
            Store::Memory(_) => None,
            Store::Disk(disk) => disk.write_error(),
        }
    }

    /// Whether a sample's image is there, as far as one can tell without reading it.
    pub(crate) fn has(&self, sample_idx: usize) -> bool {
        match &self.store {
            Store::Memory(images) => images[sample_idx].get().is_some(),
            Store::Disk(disk) => disk.has(sample_idx),
        }
    }

    /// A sample's image, in the cache's memory or read into `buffer`.
    pub(crate) fn get<'a>(&'a self, sample_idx: usize, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        match &self.store {
            Store::Memory(images) => images[sample_idx].get().map(|pixels| &**pixels),
            Store::Disk(disk) => {
                buffer.resize(self.image_len, 0);
                disk.read(sample_idx, buffer).then_some(&buffer[..])
            }
        }
    }

    /// Keeps a sample's image. Two threads may bring the same one.
    pub(crate) fn put(&self, sample_idx: usize, pixels: &[u8]) {
        let new = match &self.store {
            Store::Memory(images) => images[sample_idx].set(pixels.into()).is_ok(),
            Store::Disk(disk) => disk.write(sample_idx, pixels),
        };
        if new {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Of the files' names, lengths, modification times and faces, in order, of the image size and of how images are read. A file that is not there
/// counts as empty: whether it is an error is for the loader to say.
fn identity(dataset: &Dataset) -> Result<u64> {
    let mut sum = Checksum::new(0);
    let size = dataset.size();
    sum.words(&[size.width as u64, size.height as u64, dataset.len() as u64]);
    // Damaged images have pixels under lenient rules only.
    sum.words(&[u64::from(dataset.rules().decoding == Decoding::Strict), dataset.face_padding().to_bits()]);
    sum.bytes(dataset.images_root().as_os_str().as_encoded_bytes());
    for sample_idx in 0..dataset.len() {
        let path = dataset.image_path(sample_idx);
        sum.bytes(dataset.manifest().rows()[sample_idx].file.as_bytes());
        if let Some(face) = dataset.face(sample_idx) {
            sum.words(&[face.x, face.y, face.width, face.height].map(f64::to_bits));
        }
        let modified = |metadata: &std::fs::Metadata| {
            let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_nanos() as u64)
        };
        match fs_err::metadata(&path) {
            Ok(metadata) => sum.words(&[metadata.len(), modified(&metadata).unwrap_or(0)]),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => sum.words(&[0, 0]),
            Err(error) => return Err(Error::Io(error)),
        }
    }
    Ok(sum.finish())
}
