//! Augmentation and normalisation as torchvision defines them, on planar `(3,H,W)` f32 images.
//!
//! First draw, then apply: [`AugmentSpec::draw`] turns a sample's generator into a plain [`AugmentParams`], and
//! [`apply`] does what it says. So another executor (the fused pass, a GPU) can apply the very same draw. This is the
//! readable reference, kept for ever: one plain pass per operation. [`augment_into`] is the same in one pass, and what
//! the loader runs.
//!
//! Order: `[0,1]` -> flip -> jitter -> rotation -> affine -> normalise. Values stay in `[0,1]` until normalised, and
//! pixels that come from outside the image are 0 before normalisation (black, not the mean).
//!
//! Where they are asked for, a random resized crop and then TrivialAugment change the pixels before all that
//! ([`change_pixels`]), and random erasing blanks a part after it ([`erase`]).

mod color;
mod fused;
mod geometry;
mod operations;
mod params;
mod rectangle;
mod trivial;

pub use ff_kernels::image::{IMAGENET_MEAN, IMAGENET_STD};

pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
pub use fused::{augment_into, augment_into_at};
pub use geometry::{InverseAffine, affine, bilinear, hflip, rotate};
pub use params::{
    AffineParams, AffineSpec, Augment, AugmentParams, AugmentSpec, ColorOp, JitterParams, JitterSpec,
    Sampling,
};

pub use rectangle::{CropSpec, EraseSpec, Rectangle, erase};
pub use trivial::{TrivialOp, TrivialParams};

use crate::{
    resize::resize,
    rgb_image::{ImageSize, RgbImage},
};

/// `(H,W,3)` u8 -> `(3,H,W)` f32 in `[0,1]`, as `ToTensor` gives it.
///
/// # Panics
/// `planes` does not hold three planes of the image's size.
pub fn to_planes(image: &RgbImage, planes: &mut [f32]) {
    let area = image.width * image.height;
    assert_eq!(planes.len(), 3 * area, "expected three planes of the image's size");
    for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(image.pixels.chunks_exact(3)) {
            *value = f32::from(pixel[channel]) / 255.0;
        }
    }
}

/// What a draw does to pixels `(H,W,3)` u8 before they are planes: the crop, resized as Pillow does, and
/// TrivialAugment. `None` where it does nothing.
///
/// # Panics
/// `pixels` does not hold an image of that size, or the crop does not lie in it.
pub fn change_pixels(params: &AugmentParams, pixels: &[u8], size: ImageSize) -> Option<RgbImage> {
    assert_eq!(pixels.len(), 3 * size.area(), "expected an image of {size:?}");
    let ImageSize { width, height } = size;
    let whole = || RgbImage { width, height, pixels: pixels.to_vec() };
    let mut image = match (params.crop, params.trivial) {
        (None, None) => return None,
        (None, Some(_)) => whole(),
        (Some(part), _) => {
            let rows = pixels.chunks_exact(3 * width).skip(part.top).take(part.height);
            let part_of = |row: &[u8]| row[3 * part.left..3 * (part.left + part.width)].to_vec();
            let pixels = rows.flat_map(part_of).collect();
            resize(&RgbImage { width: part.width, height: part.height, pixels }, size)
        }
    };
    if let Some(trivial) = &params.trivial {
        trivial.apply(&mut image);
    }
    Some(image)
}

/// Applies one draw to planes in place, but for [`change_pixels`] and [`erase`]; `spare` is room for an operation that
/// cannot work in place.
///
/// # Panics
/// `planes` does not hold three planes of that size.
pub fn apply(params: &AugmentParams, planes: &mut [f32], size: ImageSize, spare: &mut Vec<f32>) {
    assert_eq!(planes.len(), 3 * size.area(), "expected three planes of {size:?}");
    if params.hflip {
        hflip(planes, size);
    }
    if let Some(jitter) = &params.jitter {
        for op in jitter.order {
            match op {
                ColorOp::Brightness => adjust_brightness(planes, jitter.brightness),
                ColorOp::Contrast => adjust_contrast(planes, jitter.contrast),
                ColorOp::Saturation => adjust_saturation(planes, jitter.saturation),
                ColorOp::Hue => adjust_hue(planes, jitter.hue),
            }
        }
    }
    if params.sampling == Sampling::Bilinear {
        return bilinear(params, planes, size, spare);
    }
    if let Some(degrees) = params.rotation {
        rotate(planes, size, degrees, spare);
    }
    if let Some(params) = &params.affine {
        affine(planes, size, params, spare);
    }
}

/// `(x - mean) / std` per channel, in place.
pub fn normalize(planes: &mut [f32]) {
    let area = planes.len() / 3;
    for ((plane, mean), std) in planes.chunks_exact_mut(area.max(1)).zip(IMAGENET_MEAN).zip(IMAGENET_STD) {
        for value in plane {
            *value = (*value - mean) / std;
        }
    }
}
