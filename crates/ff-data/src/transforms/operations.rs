//! What TrivialAugment's operations do to the pixels of an image.
//!
//! The arithmetic is `torchvision.transforms.TrivialAugmentWide`'s on u8 tensors, to the byte but for the rounding of
//! sums: values are cut off, not rounded, when they become bytes again, and maps look up the nearest pixel. What comes
//! from outside the image is black.

use super::geometry::{InverseAffine, Sources};
use super::trivial::{TrivialOp, TrivialParams};
use crate::rgb_image::RgbImage;

impl TrivialParams {
    /// Changes an image.
    pub fn apply(&self, image: &mut RgbImage) {
        let (m, size) = (self.magnitude as f32, image.size());
        let factor = 1.0 + self.magnitude;
        let map = |map: [f64; 6]| InverseAffine(map.map(|x| x as f32));
        match self.op {
            TrivialOp::Identity => {}
            // About the upper left corner, not the centre.
            TrivialOp::ShearX => {
                let at_centre = self.magnitude * 0.5 * size.height as f64;
                resample(image, &map([1.0, self.magnitude, at_centre, 0.0, 1.0, 0.0]));
            }
            TrivialOp::ShearY => {
                let at_centre = self.magnitude * 0.5 * size.width as f64;
                resample(image, &map([1.0, 0.0, 0.0, self.magnitude, 1.0, at_centre]));
            }
            TrivialOp::TranslateX => {
                resample(image, &map([1.0, 0.0, -self.magnitude.trunc(), 0.0, 1.0, 0.0]));
            }
            TrivialOp::TranslateY => {
                resample(image, &map([1.0, 0.0, 0.0, 0.0, 1.0, -self.magnitude.trunc()]));
            }
            TrivialOp::Rotate => resample(image, &InverseAffine::rotation(self.magnitude)),
            TrivialOp::Brightness => blend(image, factor, |_, _| 0.0),
            TrivialOp::Color => blend(image, factor, |pixel, _| f32::from(grey(pixel))),
            TrivialOp::Contrast => {
                let sum: u64 = pixels(image).map(|pixel| u64::from(grey(pixel))).sum();
                let mean = (sum as f64 / size.area() as f64) as f32;
                blend(image, factor, |_, _| mean);
            }
            TrivialOp::Sharpness => sharpen(image, factor),
            TrivialOp::Posterize => {
                let mask = 0xff << (8 - m as u32);
                image.pixels.iter_mut().for_each(|value| *value &= mask as u8);
            }
            TrivialOp::Solarize => {
                let invert = |value: &mut u8| {
                    if f32::from(*value) >= m {
                        *value = 255 - *value;
                    }
                };
                image.pixels.iter_mut().for_each(invert);
            }
            TrivialOp::AutoContrast => each_channel(image, stretched),
            TrivialOp::Equalize => each_channel(image, equalized),
        }
    }
}

fn pixels(image: &RgbImage) -> impl Iterator<Item = [u8; 3]> {
    image.pixels.chunks_exact(3).map(|p| [p[0], p[1], p[2]])
}

fn grey([r, g, b]: [u8; 3]) -> u8 {
    (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8
}

/// `factor * x + (1 - factor) * other(pixel, channel)`, cut off to a byte.
fn blend(image: &mut RgbImage, factor: f64, other: impl Fn([u8; 3], usize) -> f32) {
    for pixel in image.pixels.chunks_exact_mut(3) {
        let of = [pixel[0], pixel[1], pixel[2]];
        for (channel, value) in pixel.iter_mut().enumerate() {
            *value = blended(*value, other(of, channel), factor);
        }
    }
}

fn blended(value: u8, other: f32, factor: f64) -> u8 {
    // A conversion to a byte keeps to 0 and 255.
    (factor as f32 * f32::from(value) + (1.0 - factor) as f32 * other) as u8
}

/// Blends with the image smoothed over 3 x 3 pixels, the centre five times as heavy; the outermost pixels are not
/// smoothed.
fn sharpen(image: &mut RgbImage, factor: f64) {
    let (width, height) = (image.width, image.height);
    if width <= 2 || height <= 2 {
        return;
    }
    let before = image.pixels.clone();
    let at = |x: usize, y: usize, channel: usize| f32::from(before[3 * (y * width + x) + channel]);
    let smooth = |x: usize, y: usize, channel: usize| {
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            return at(x, y, channel);
        }
        let around = (y - 1..=y + 1).flat_map(|y| (x - 1..=x + 1).map(move |x| (x, y)));
        let sum: f32 = around.map(|(x, y)| at(x, y, channel)).sum();
        ((sum + 4.0 * at(x, y, channel)) / 13.0).round_ties_even()
    };
    for (i, value) in image.pixels.iter_mut().enumerate() {
        let (x, y, channel) = (i / 3 % width, i / 3 / width, i % 3);
        *value = blended(*value, smooth(x, y, channel), factor);
    }
}

/// Sends the values of each channel through a table that is made of how often each occurs.
fn each_channel(image: &mut RgbImage, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    for channel in 0..3 {
        let mut counts = [0; 256];
        image.pixels.iter().skip(channel).step_by(3).for_each(|&value| counts[usize::from(value)] += 1);
        let table = table(&counts);
        let values = image.pixels.iter_mut().skip(channel).step_by(3);
        values.for_each(|value| *value = table[usize::from(*value)]);
    }
}

/// From black to white, linearly; a channel of one value stays.
fn stretched(counts: &[u32; 256]) -> [u8; 256] {
    let least = counts.iter().position(|&n| n > 0).unwrap_or(0) as f32;
    let most = counts.iter().rposition(|&n| n > 0).unwrap_or(0) as f32;
    let (least, scale) = if most > least { (least, 255.0 / (most - least)) } else { (0.0, 1.0) };
    std::array::from_fn(|value| ((value as f32 - least) * scale) as u8)
}

/// All values about equally often, as Pillow's `ImageOps.equalize`.
fn equalized(counts: &[u32; 256]) -> [u8; 256] {
    let last = counts.iter().rposition(|&n| n > 0).map_or(0, |i| counts[i]);
    let step = (counts.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return std::array::from_fn(|value| value as u8);
    }
    let mut before = 0;
    counts.map(|n| {
        let value = (before + step / 2) / step;
        before += n;
        value.min(255) as u8
    })
}

fn resample(image: &mut RgbImage, map: &InverseAffine) {
    let from = image.pixels.clone();
    let size = image.size();
    let mut sources = Sources::new(map, size);
    for (y, row) in image.pixels.chunks_exact_mut(3 * size.width).enumerate() {
        for (pixel, &source) in row.chunks_exact_mut(3).zip(sources.of_row(y)) {
            match usize::try_from(source) {
                Ok(i) => pixel.copy_from_slice(&from[3 * i..3 * i + 3]),
                Err(_) => pixel.fill(0),
            }
        }
    }
}
