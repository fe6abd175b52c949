//! What an image file may be: how long, how many pixels, how damaged.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    rgb_image::{ImageSize, RgbImage},
};

/// Bounds for image files, which may come from anywhere.
///
/// What decoding takes beside the file is at most about 16 bytes a pixel and 64 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRules {
    /// Longest file, in bytes.
    pub max_file: u64,
    /// Most pixels, as the header claims them; looked at before memory is taken for any.
    pub max_pixels: u64,
    /// Whether damage is an error.
    pub decoding: Decoding,
}

/// What becomes of a damaged JPEG. Damage to other formats is always an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// It is an error.
    #[default]
    Strict,
    /// Whatever can be decoded counts, and the rest is grey, as in browsers.
    Lenient,
}

impl ImageRules {
    /// 64 million pixels: any camera's, and 192 MB decoded.
    pub const MAX_PIXELS: u64 = 64_000_000;
    /// 64 MiB, in MiB.
    pub const MAX_FILE_MIB: u64 = 64;

    /// # Errors
    /// More pixels than allowed, or none.
    pub(crate) fn check_size(&self, size: ImageSize) -> Result<()> {
        let ImageSize { width, height } = size;
        let pixels = width as u64 * height as u64;
        if pixels == 0 || pixels > self.max_pixels {
            let expected = self.max_pixels;
            return Err(Error::Decode(format!(
                "expected 1 to {expected} pixels (max_pixels), found {width}x{height}"
            )));
        }
        Ok(())
    }

    /// Gives `image` the size, if it is allowed.
    pub(super) fn reshape(&self, image: &mut RgbImage, size: ImageSize) -> Result<()> {
        self.check_size(size)?;
        image.reshape(size.width, size.height);
        Ok(())
    }
}

impl Default for ImageRules {
    fn default() -> Self {
        ImageRules {
            max_file: Self::MAX_FILE_MIB << 20,
            max_pixels: Self::MAX_PIXELS,
            decoding: Decoding::default(),
        }
    }
}
