//! Small pictures of faces inside the page: each once, as a class of the style sheet, however often it is shown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ff_data::thumbnail_uri;

/// The longer side, pixels.
const SIDE: usize = 112;

/// Pictures by images folder and file.
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
        if let Ok(uri) = thumbnail_uri(&images.join(file), SIDE) {
            self.by_file.insert(key, Thumbnail { class, uri });
        }
    }

    /// The class that shows a file's picture, if there is one.
    pub fn class(&self, images: &Path, file: &str) -> Option<String> {
        self.by_file.get(&(images.to_owned(), file.to_owned())).map(|thumbnail| thumbnail.class.clone())
    }

    /// The rules of the style sheet.
    pub fn css(&self) -> String {
        let mut css = String::new();
        for Thumbnail { class, uri } in self.by_file.values() {
            writeln!(css, ".{class}{{background-image:url({uri})}}").expect("strings take all");
        }
        css
    }
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
}
