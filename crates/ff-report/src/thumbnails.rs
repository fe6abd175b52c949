//! Small pictures of image files as text, so that a page needs no other file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

/// The longer side, pixels.
const SIDE: usize = 112;
/// Of 100: no artefacts that a face of this size would show.
const QUALITY: u8 = 75;

/// Pictures by images folder and file: each stands once on a page, as a class of the style sheet, however often it is
/// shown.
#[derive(Debug, Clone, Default)]
pub struct Thumbnails {
    by_file: BTreeMap<(PathBuf, String), Thumbnail>,
}

#[derive(Debug, Clone)]
struct Thumbnail {
    class: String,
    uri: String,
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
        if let Some(uri) = data_uri(&images.join(file)) {
            self.by_file.insert(key, Thumbnail { class, uri });
        }
    }

    /// The class that shows a file's picture, if there is one.
    pub fn class(&self, images: &Path, file: &str) -> Option<&str> {
        self.by_file.get(&(images.to_owned(), file.to_owned())).map(|thumbnail| thumbnail.class.as_str())
    }

    /// The rules of the style sheet: nothing of a file's name is in them.
    pub fn css(&self) -> String {
        let mut css = String::new();
        for Thumbnail { class, uri } in self.by_file.values() {
            writeln!(css, ".{class}{{background-image:url({uri})}}").expect("strings take all");
        }
        css
    }
}

/// A small copy of an image file as `data:image/jpeg;base64,...`; `None` where it cannot be read.
pub fn data_uri(path: &Path) -> Option<String> {
    Some(format!("data:image/jpeg;base64,{}", base64(&thumbnail_jpeg(path, SIDE)?)))
}

/// A small copy of an image file as JPEG, its longer side at most `side` pixels; `None` where it cannot be read.
pub fn thumbnail_jpeg(path: &Path, side: usize) -> Option<Vec<u8>> {
    let small = ff_data::thumbnail(path, side).ok()?;
    let (width, height) = (u32::try_from(small.width).ok()?, u32::try_from(small.height).ok()?);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&small.pixels, width, height, ExtendedColorType::Rgb8)
        .ok()?;
    Some(jpeg)
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

    #[test]
    fn pictures_stand_once_and_are_small() {
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
