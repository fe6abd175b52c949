//! Encoded bytes -> upright RGB, 8 bits per channel.
//!
//! The format is told by content, never by the file's extension. As PIL's `convert("RGB")` does: grey is repeated,
//! CMYK and YCCK are taken as Adobe writes them (inverted), alpha is dropped and not composited. 16-bit samples are
//! scaled to 8. All eight EXIF orientations are undone; broken EXIF is ignored. Of an animation the first frame counts.
//!
//! Files may come from anywhere: nothing is allocated for an image before its header kept to the [`ImageRules`], and a
//! decoder that panics is that image's error. What is damaged is an error too, not a half-grey face, unless the rules
//! are lenient.

mod jpeg;
mod other;
mod quiet;
mod rules;

use exif::{In, Tag};

use crate::{
    error::{Error, Result},
    resize::ImageSize,
};
pub(crate) use quiet::panic_message;
pub use rules::{Decoding, ImageRules};

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

    fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y * self.width + x) * 3;
        [self.pixels[i], self.pixels[i + 1], self.pixels[i + 2]]
    }
}

/// Decodes any supported format by the default rules.
///
/// # Errors
/// [`Error::Decode`]: no known format, too large, truncated or corrupt data, or an image without pixels.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let mut image = RgbImage::default();
    decode_into(bytes, &ImageRules::default(), &mut image)?;
    Ok(image)
}

/// As [`decode`] by other rules, into an image whose allocation is used again.
///
/// # Errors
/// As [`decode`]; `image` then has no particular contents.
pub fn decode_into(bytes: &[u8], rules: &ImageRules, image: &mut RgbImage) -> Result<()> {
    let decode = || if jpeg::is_jpeg(bytes) { jpeg::decode } else { other::decode }(bytes, rules, image);
    let orientation = quiet::quietly(decode).unwrap_or_else(|message| Err(panicked(&message)))?;
    if orientation != UPRIGHT {
        *image = oriented(image, orientation);
    }
    Ok(())
}

/// The size of the image as stored, from its header alone; `None` where `bytes` are the beginning of a JPEG and end
/// before its header does.
///
/// # Errors
/// As [`decode`], as far as the header tells.
pub(crate) fn header_size(bytes: &[u8], rules: &ImageRules) -> Result<Option<ImageSize>> {
    let size = || if jpeg::is_jpeg(bytes) { jpeg::size(bytes) } else { other::size(bytes, rules).map(Some) };
    let size = quiet::quietly(size).unwrap_or_else(|message| Err(panicked(&message)))?;
    size.map_or(Ok(()), |size| rules.check_size(size))?;
    Ok(size)
}

/// Whether [`header_size`] needs no more than the beginning of the file.
pub(crate) fn header_is_enough(beginning: &[u8]) -> bool {
    jpeg::is_jpeg(beginning)
}

fn panicked(message: &str) -> Error {
    Error::Decode(format!("decoder panicked: {message}"))
}

const UPRIGHT: u32 = 1;

/// The orientation tag, 1 to 8; upright where there is none or none that can be read.
fn orientation(exif: Result<exif::Exif, exif::Error>) -> u32 {
    let exif = exif.ok();
    let field = exif.as_ref().and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY));
    field.and_then(|field| field.value.get_uint(0)).filter(|tag| (1..=8).contains(tag)).unwrap_or(UPRIGHT)
}

/// Undoes an EXIF orientation (EXIF 2.3, tag 0x0112): the tag says where row 0 and column 0 belong.
fn oriented(image: &RgbImage, orientation: u32) -> RgbImage {
    let (w, h) = (image.width, image.height);
    let mut upright = RgbImage::default();
    if orientation >= 5 {
        upright.reshape(h, w)
    } else {
        upright.reshape(w, h)
    }
    let out_width = upright.width;
    for (i, pixel) in upright.pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (i % out_width, i / out_width);
        let (from_x, from_y) = match orientation {
            2 => (w - 1 - x, y),
            3 => (w - 1 - x, h - 1 - y),
            4 => (x, h - 1 - y),
            5 => (y, x),
            6 => (y, h - 1 - x),
            7 => (w - 1 - y, h - 1 - x),
            8 => (w - 1 - y, x),
            _ => (x, y),
        };
        pixel.copy_from_slice(&image.pixel(from_x, from_y));
    }
    upright
}
