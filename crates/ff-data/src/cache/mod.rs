//! Decoded images kept for the next epoch: 150,528 bytes each at 224 x 224, in memory or in one file on a disk.
//!
//! Filled as images are decoded for the first time; which are there changes the speed and nothing else. What is kept
//! is the resized u8 image before augmentation, so that every epoch augments anew.
//!
//! A cache on a disk belongs to the files and the image size that whoever opens it names by an identity. Its size is
//! worked out before it is made, and refused where there is no room.

mod checksum;
mod disk;
mod room;

use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::error::Result;
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
    /// Opens or makes the cache of some images, each `image_len` bytes; `None` if none is wanted. `identity` tells a
    /// file on the disk from those of other images.
    pub(crate) fn open(
        spec: &CacheSpec,
        n_images: usize,
        image_len: usize,
        identity: impl FnOnce() -> Result<u64>,
    ) -> Result<Option<Self>> {
        let (store, kept) = match spec {
            CacheSpec::None => return Ok(None),
            CacheSpec::Memory => {
                room::memory((n_images * image_len) as u64)?;
                (Store::Memory((0..n_images).map(|_| OnceLock::new()).collect()), 0)
            }
            CacheSpec::Disk(dir) => {
                let disk = DiskCache::open(dir, identity()?, n_images, image_len)?;
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
