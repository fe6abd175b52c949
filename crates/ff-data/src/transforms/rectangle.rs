//! Random rectangles of an image: which part `RandomResizedCrop` takes, and which one `RandomErasing` blanks.
//!
//! Both are torchvision's: an area and a shape are drawn up to ten times until they fit, then a place. Areas are shares
//! of the image's; the logarithm of the shape is uniform, so that wide ones are as frequent as high ones.

use ff_core::random::{below, exp, ln, unit};
use rand::RngCore;
use serde::{Deserialize, Serialize};

use crate::rgb_image::ImageSize;

/// Draws of area and shape before there is none that fits.
const ATTEMPTS: usize = 10;

/// A part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rectangle {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// `torchvision.transforms.RandomResizedCrop`, with the shapes of its defaults, 3:4 to 4:3.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropSpec {
    /// Smallest share of the image's area that is taken, above 0 and at most 1. The largest is 1.
    pub smallest: f64,
}

/// `torchvision.transforms.RandomErasing` (Zhong et al., "Random erasing data augmentation", AAAI 2020), with the areas
/// and shapes of its defaults: 0.02 to 0.33 of the image, 0.3 to 3.3 as high as wide. What is blanked is 0 after
/// normalisation, ImageNet's mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseSpec {
    /// Probability that there is a rectangle, in `[0,1]`.
    pub probability: f64,
}

impl CropSpec {
    /// Draws the part of an image of this size that is taken.
    pub fn draw(&self, rng: &mut impl RngCore, size: ImageSize) -> Rectangle {
        const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
        for _ in 0..ATTEMPTS {
            let (area, ratio) = area_and_ratio(rng, size, (self.smallest, 1.0), RATIO);
            let (width, height) = (round((area * ratio).sqrt()), round((area / ratio).sqrt()));
            if (1..=size.width).contains(&width) && (1..=size.height).contains(&height) {
                return placed(rng, size, height, width);
            }
        }
        // The largest part about the centre whose shape is in the range.
        let ratio = size.width as f64 / size.height as f64;
        let (width, height) = match ratio {
            ratio if ratio < RATIO.0 => (size.width, round(size.width as f64 / RATIO.0)),
            ratio if ratio > RATIO.1 => (round(size.height as f64 * RATIO.1), size.height),
            _ => (size.width, size.height),
        };
        Rectangle { top: (size.height - height) / 2, left: (size.width - width) / 2, height, width }
    }
}

impl EraseSpec {
    /// Draws the part of an image of this size that is blanked, if one is.
    pub fn draw(&self, rng: &mut impl RngCore, size: ImageSize) -> Option<Rectangle> {
        const AREA: (f64, f64) = (0.02, 0.33);
        const RATIO: (f64, f64) = (0.3, 3.3);
        if f64::from(unit(rng)) >= self.probability {
            return None;
        }
        for _ in 0..ATTEMPTS {
            let (area, ratio) = area_and_ratio(rng, size, AREA, RATIO);
            let (height, width) = (round((area * ratio).sqrt()), round((area / ratio).sqrt()));
            if height < size.height && width < size.width {
                return Some(placed(rng, size, height, width));
            }
        }
        None
    }
}

/// Sets the pixels of a part of three planes to 0.
///
/// # Panics
/// `planes` does not hold three planes of that size, or the part does not lie in them.
pub fn erase(planes: &mut [f32], size: ImageSize, part: Rectangle) {
    assert_eq!(planes.len(), 3 * size.area(), "expected three planes of {size:?}");
    for plane in planes.chunks_exact_mut(size.area()) {
        for row in plane.chunks_exact_mut(size.width).skip(part.top).take(part.height) {
            row[part.left..part.left + part.width].fill(0.0);
        }
    }
}

/// Pixels, and the shape as a ratio of sides.
fn area_and_ratio(
    rng: &mut impl RngCore,
    size: ImageSize,
    shares: (f64, f64),
    ratios: (f64, f64),
) -> (f64, f64) {
    let mut between = |low: f64, high: f64| low + (high - low) * f64::from(unit(rng));
    let area = size.area() as f64 * between(shares.0, shares.1);
    (area, exp(between(ln(ratios.0), ln(ratios.1))))
}

/// Somewhere in the image.
fn placed(rng: &mut impl RngCore, size: ImageSize, height: usize, width: usize) -> Rectangle {
    let mut first = |side: usize, part: usize| below(rng, (side - part + 1) as u32) as usize;
    Rectangle { top: first(size.height, height), left: first(size.width, width), height, width }
}

/// Half to even, as Python does.
fn round(x: f64) -> usize {
    x.round_ties_even() as usize
}
