//! What is kept of an image to compare it with others: its SHA-256, its size and a small grey picture.

use sha2::{Digest, Sha256};

use crate::{
    decode::{ImageRules, decode_into},
    error::Result,
    resize::resize_into,
    rgb_image::{ImageSize, RgbImage},
};

/// Pixels along a thumbnail's side.
pub(super) const SIDE: usize = 32;

/// Grey values `(32,32)`, row by row.
pub(super) type Thumbnail = [u8; SIDE * SIDE];

/// An image, as far as comparing it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the file's bytes.
    pub sha256: [u8; 32],
    /// The decoded image's size.
    pub size: ImageSize,
    /// The whole image as 32 x 32 grey values.
    pub(super) thumbnail: Box<Thumbnail>,
}

/// A worker's memory, used again for every image.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    decoded: RgbImage,
    narrow: RgbImage,
    small: RgbImage,
}

impl Fingerprint {
    /// The fingerprint of a file's bytes.
    ///
    /// # Errors
    /// The bytes do not decode, as [`decode`](crate::decode()) says.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        Self::with_scratch(bytes, &ImageRules::default(), &mut Scratch::default())
    }

    pub(super) fn with_scratch(bytes: &[u8], rules: &ImageRules, scratch: &mut Scratch) -> Result<Self> {
        let Scratch { decoded, narrow, small } = scratch;
        decode_into(bytes, rules, decoded)?;
        let size = ImageSize { width: decoded.width, height: decoded.height };
        resize_into(decoded, ImageSize { width: SIDE, height: SIDE }, narrow, small);
        let mut thumbnail = Box::new([0; SIDE * SIDE]);
        for (grey, rgb) in thumbnail.iter_mut().zip(small.pixels.chunks_exact(3)) {
            // ITU-R BT.601 luma, as PIL's "L", in 16 fractional bits.
            let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
            *grey = ((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8;
        }
        Ok(Fingerprint { sha256: Sha256::digest(bytes).into(), size, thumbnail })
    }

    /// Whether there is next to nothing to see: grey values within a standard deviation of 3 of each other.
    pub fn is_blank(&self) -> bool {
        const MIN_DEVIATION: f64 = 3.0;
        let n = self.thumbnail.len() as f64;
        let mean = self.thumbnail.iter().map(|&grey| f64::from(grey)).sum::<f64>() / n;
        let variance = self.thumbnail.iter().map(|&grey| (f64::from(grey) - mean).powi(2)).sum::<f64>() / n;
        variance < MIN_DEVIATION * MIN_DEVIATION
    }
}
