//! Pictures of the repository, and what can be done to them.

use std::path::{Path, PathBuf};

use ff_faces::{Face, Photo};
use image::{Rgb, RgbImage, imageops};

/// A file of the repository's `data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

pub fn open(path: impl AsRef<Path>) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

/// Every `step`th of the sample's 799 crops, in the order of their names.
pub fn crops(step: usize) -> Vec<RgbImage> {
    let folder = fs_err::read_dir(data("sample/images/val")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 799);
    files.iter().step_by(step).map(open).collect()
}

pub fn photo(image: &RgbImage) -> Photo<'_> {
    Photo::new(image.width() as usize, image.height() as usize, image.as_raw()).unwrap()
}

/// A crop with a grey border, so that its face no longer fills the picture.
pub fn bordered(crop: &RgbImage, border: u32) -> RgbImage {
    let grey = Rgb([127; 3]);
    let mut canvas = RgbImage::from_pixel(crop.width() + 2 * border, crop.height() + 2 * border, grey);
    imageops::replace(&mut canvas, crop, border.into(), border.into());
    canvas
}

/// How far a face's own crop is from the one at (x, y) of this size: root mean square over an 8x8 grid, in pixels of a
/// 224-pixel crop.
pub fn crop_error(face: &Face, x: f32, y: f32, side: f32) -> f32 {
    let shift = |p: ff_faces::Point| ff_faces::Point::new(p.x - x, p.y - y);
    let points = face.landmarks.points().map(shift);
    let landmarks = match face.landmarks {
        ff_faces::Landmarks::Corners { .. } => ff_faces::Landmarks::corners(points),
        ff_faces::Landmarks::Centres { .. } => ff_faces::Landmarks::centres(points),
    };
    Face::from_landmarks(landmarks).unwrap().crop_error(side as usize, side as usize)
}

/// The middle of sorted values, or any other share of them.
pub fn quantile(values: &mut [f32], share: f32) -> f32 {
    values.sort_by(f32::total_cmp);
    values[((values.len() - 1) as f32 * share).round() as usize]
}
