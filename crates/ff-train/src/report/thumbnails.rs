//! Small pictures of faces inside the page: each once, as a class of the style sheet, however often it is shown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ff_data::{ImageSize, RgbImage};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

/// The longer side, pixels: shown at 80 CSS pixels.
const SIDE: usize = 112;
const QUALITY: u8 = 75;

/// Pictures by images folder and file.
#[derive(Debug, Clone, Default)]
pub struct Thumbnails {
    by_file: BTreeMap<(PathBuf, String), Thumbnail>,
}

#[derive(Debug, Clone)]
struct Thumbnail {
    class: String,
    jpeg: Vec<u8>,
}

impl Thumbnails {
    /// Adds the picture of a file in an images folder. One that cannot be read is left out: the images may have moved
    /// since they were evaluated.
    pub fn add(&mut self, images: &Path, file: &str) {
        let key = (images.to_owned(), file.to_owned());
        if self.by_file.contains_key(&key) {
            return;
        }
        let class = format!("face-{}", self.by_file.len());
        if let Some(jpeg) = thumbnail(&images.join(file)) {
            self.by_file.insert(key, Thumbnail { class, jpeg });
        }
    }

    /// The class that shows a file's picture, if there is one.
    pub fn class(&self, images: &Path, file: &str) -> Option<String> {
        self.by_file.get(&(images.to_owned(), file.to_owned())).map(|thumbnail| thumbnail.class.clone())
    }

    /// The rules of the style sheet.
    pub fn css(&self) -> String {
        let mut css = String::new();
        for Thumbnail { class, jpeg } in self.by_file.values() {
            writeln!(css, ".{class}{{background-image:url(data:image/jpeg;base64,{})}}", base64(jpeg))
                .expect("strings take all");
        }
        css
    }
}

/// The image as a small JPEG.
fn thumbnail(path: &Path) -> Option<Vec<u8>> {
    let image = ff_data::decode(&fs_err::read(path).ok()?).ok()?;
    let RgbImage { width, height, pixels } = ff_data::resize(&image, fitted(image.width, image.height));
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .ok()?;
    Some(jpeg)
}

/// The size at which the longer side is [`SIDE`].
fn fitted(width: usize, height: usize) -> ImageSize {
    let longer = width.max(height);
    let scaled = |side: usize| (side * SIDE).div_ceil(longer);
    ImageSize { width: scaled(width), height: scaled(height) }
}

/// Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_rfc_4648() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn pictures_keep_their_shape_and_stand_once() {
        assert_eq!(fitted(224, 112), ImageSize { width: 112, height: 56 });
        assert_eq!(fitted(3, 1000), ImageSize { width: 1, height: 112 });
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample/images");
        let mut thumbnails = Thumbnails::default();
        for file in ["val/1113.jpg", "val/639.jpg", "val/1113.jpg", "val/none.jpg"] {
            thumbnails.add(&sample, file);
        }
        let css = thumbnails.css();
        assert_eq!(css.lines().count(), 2, "{css}");
        assert!(thumbnails.class(&sample, "val/1113.jpg").is_some());
        assert_eq!(thumbnails.class(&sample, "val/none.jpg"), None);
        assert!(css.len() < 20_000, "{} bytes for two faces", css.len());
    }
}
