//! A small picture of an image file as text, for pages that need no other file.

use std::path::Path;

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};

use crate::{
    decode::{ImageRules, decode},
    error::{Error, Result},
    image_file,
    resize::resize,
    rgb_image::ImageSize,
};

/// A `data:image/jpeg;base64,...` URI of an image file, its longer side at most `side` pixels.
///
/// # Errors
/// The file cannot be read or does not decode.
pub fn thumbnail_uri(path: &Path, side: usize) -> Result<String> {
    const QUALITY: u8 = 75;
    let mut file = Vec::new();
    image_file::read(path, &ImageRules::default(), &mut file)?;
    let image = decode(&file)?;
    let longer = image.width.max(image.height);
    let shrunk = |length: usize| if longer > side { (length * side / longer).max(1) } else { length };
    let size = ImageSize { width: shrunk(image.width), height: shrunk(image.height) };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&resize(&image, size).pixels, size.width as u32, size.height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| Error::Config(format!("{}: thumbnail: {error}", path.display())))?;
    Ok(format!("data:image/jpeg;base64,{}", base64(&jpeg)))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 63;
            text.push(if digit <= group.len() { DIGITS[value as usize].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_rfc_4648s() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (text, expected) in vectors {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
