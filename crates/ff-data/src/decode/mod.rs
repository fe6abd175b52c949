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
mod orientation;
mod other;
mod quiet;
mod rules;

use crate::{
    error::{Error, Result},
    rgb_image::{ImageSize, RgbImage},
};
use orientation::{UPRIGHT, oriented};
pub use rules::{Decoding, ImageRules};

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
