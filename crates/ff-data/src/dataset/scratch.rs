//! A worker's memory, and what it spent its time on.

use std::time::Duration;

use crate::rgb_image::RgbImage;

/// A worker's memory, used again for every image.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) file: Vec<u8>,
    pub(super) decoded: RgbImage,
    pub(super) narrow: RgbImage,
    pub(super) resized: RgbImage,
    pub(super) planes: Vec<f32>,
    /// An image from the disk cache.
    pub(super) kept: Vec<u8>,
    pub(super) times: StageTimes,
    /// How long the last file took, until somebody asks.
    pub(super) file_read: Option<Duration>,
}

/// Where the time went, added up over images and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Images made.
    pub images: u64,
    /// Reading files; reading and writing the cache.
    pub read: Duration,
    /// Decoding and resizing.
    pub decode: Duration,
    /// Augmenting and normalising.
    pub augment: Duration,
}

impl std::ops::AddAssign for StageTimes {
    fn add_assign(&mut self, other: Self) {
        self.images += other.images;
        self.read += other.read;
        self.decode += other.decode;
        self.augment += other.augment;
    }
}

impl std::ops::Sub for StageTimes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        StageTimes {
            images: self.images - earlier.images,
            read: self.read - earlier.read,
            decode: self.decode - earlier.decode,
            augment: self.augment - earlier.augment,
        }
    }
}

impl Scratch {
    /// What this memory was used for since the last call.
    pub fn take_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }

    /// How long reading a file took since the last call, if one was read.
    pub(crate) fn take_file_read(&mut self) -> Option<Duration> {
        self.file_read.take()
    }
}
