//! A small copy of an image file.

use std::path::Path;

use crate::{
    decode::{ImageRules, decode},
    error::Result,
    image_file,
    resize::resize,
    rgb_image::ImageSize,
    rgb_image::RgbImage,
};

/// An image file's picture, its longer side at most `side` pixels.
///
/// # Errors
/// The file cannot be read or does not decode.
pub fn thumbnail(path: &Path, side: usize) -> Result<RgbImage> {
    let mut file = Vec::new();
    image_file::read(path, &ImageRules::default(), &mut file)?;
    let image = decode(&file)?;
    let longer = image.width.max(image.height);
    let shrunk = |length: usize| if longer > side { (length * side / longer).max(1) } else { length };
    Ok(resize(&image, ImageSize { width: shrunk(image.width), height: shrunk(image.height) }))
}
