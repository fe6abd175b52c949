//! An image in memory, and the size of one.

use crate::error::{Error, Result};

/// An image of `height` rows of `width` pixels of (red, green, blue): `(H,W,3)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// Gives the image a size; pixels keep their allocation and have no particular values.
    pub(crate) fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.pixels.resize(width * height * 3, 0);
    }

    pub(crate) fn size(&self) -> ImageSize {
        ImageSize { width: self.width, height: self.height }
    }

    pub(crate) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y * self.width + x) * 3;
        [self.pixels[i], self.pixels[i + 1], self.pixels[i + 2]]
    }
}

/// The size of an image in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSize {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl ImageSize {
    /// ResNet's and FairFace's 224 x 224.
    pub const DEFAULT: ImageSize = ImageSize { width: 224, height: 224 };

    /// The shortest and the longest side of a [`ImageSize::square`].
    pub const SIDES: [usize; 2] = [64, 512];
    /// What its side is a multiple of: the network halves it five times.
    pub const STEP: usize = 32;

    /// A square that networks take.
    ///
    /// # Errors
    /// `side` is no multiple of 32 from 64 to 512.
    pub fn square(side: usize) -> Result<Self> {
        let ([least, most], step) = (Self::SIDES, Self::STEP);
        if (least..=most).contains(&side) && side.is_multiple_of(step) {
            return Ok(ImageSize { width: side, height: side });
        }
        Err(Error::Config(format!(
            "data.image_size: expected a multiple of {step} from {least} to {most}, found {side}"
        )))
    }

    /// Pixels in one plane.
    pub const fn area(self) -> usize {
        self.width * self.height
    }
}

impl Default for ImageSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}
