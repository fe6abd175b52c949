//! Which way up a camera held an image, and turning it upright.

use exif::{In, Tag};

use crate::rgb_image::RgbImage;

/// The orientation of an image that is stored as it is seen.
pub(super) const UPRIGHT: u32 = 1;

/// The orientation tag, 1 to 8; upright where there is none or none that can be read.
pub(super) fn orientation(exif: Result<exif::Exif, exif::Error>) -> u32 {
    let exif = exif.ok();
    let field = exif.as_ref().and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY));
    field.and_then(|field| field.value.get_uint(0)).filter(|tag| (1..=8).contains(tag)).unwrap_or(UPRIGHT)
}

/// Undoes an EXIF orientation (EXIF 2.3, tag 0x0112): the tag says where row 0 and column 0 belong.
pub(super) fn oriented(image: &RgbImage, orientation: u32) -> RgbImage {
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
