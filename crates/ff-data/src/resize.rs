//! Antialiased bilinear resizing, bit for bit as Pillow does it (and so torchvision's `Resize` on a PIL image).
//!
//! A triangle filter is stretched by the ratio when shrinking, so that every source pixel counts. Columns first, then
//! rows; each pass rounds to 8 bits; weights are fixed-point with 22 fractional bits, which is what makes the result
//! Pillow's to the last bit. The aspect ratio is not kept: the whole image is mapped onto the whole target.

use crate::rgb_image::{ImageSize, RgbImage};

/// Resizes `image`; a copy where it has the size already.
///
/// # Panics
/// The image or the target has no pixels.
pub fn resize(image: &RgbImage, size: ImageSize) -> RgbImage {
    let mut narrow = RgbImage::default();
    let mut out = RgbImage::default();
    resize_into(image, size, &mut narrow, &mut out);
    out
}

/// As [`resize`], with `narrow` as room for the first pass.
pub(crate) fn resize_into(image: &RgbImage, size: ImageSize, narrow: &mut RgbImage, out: &mut RgbImage) {
    assert!(image.width * image.height > 0 && size.area() > 0, "expected images with at least one pixel");
    let columns = if image.width == size.width {
        image
    } else {
        resize_columns(image, size.width, narrow);
        &*narrow
    };
    if image.height == size.height {
        out.reshape(size.width, size.height);
        out.pixels.copy_from_slice(&columns.pixels);
    } else {
        resize_rows(columns, size.height, out);
    }
}

const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Which source pixels make one output pixel: `weights[i]` belongs to pixel `first + i`.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// One window per output pixel of an axis.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let ratio = from as f64 / to as f64;
    let support = ratio.max(1.0);
    let window = |i: usize| {
        let center = (i as f64 + 0.5) * ratio;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle = |pixel: usize| (1.0 - ((pixel as f64 - center + 0.5) / support).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(triangle).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / total * f64::from(1 << FRACTION_BITS)).round() as i32;
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

fn to_u8(fixed: i32) -> u8 {
    (fixed >> FRACTION_BITS).clamp(0, 255) as u8
}

fn resize_columns(image: &RgbImage, width: usize, out: &mut RgbImage) {
    let windows = windows(image.width, width);
    out.reshape(width, image.height);
    let rows = image.pixels.chunks_exact(image.width * 3);
    for (row, out_row) in rows.zip(out.pixels.chunks_exact_mut(width * 3)) {
        for (window, pixel) in windows.iter().zip(out_row.chunks_exact_mut(3)) {
            let mut sum = [HALF; 3];
            for (weight, rgb) in window.weights.iter().zip(row[window.first * 3..].chunks_exact(3)) {
                for (sum, &value) in sum.iter_mut().zip(rgb) {
                    *sum += weight * i32::from(value);
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sum) {
                *value = to_u8(sum);
            }
        }
    }
}

fn resize_rows(image: &RgbImage, height: usize, out: &mut RgbImage) {
    out.reshape(image.width, height);
    let row_len = image.width * 3;
    let mut sums = vec![0; row_len];
    for (window, out_row) in windows(image.height, height).iter().zip(out.pixels.chunks_exact_mut(row_len)) {
        sums.fill(HALF);
        let rows = image.pixels[window.first * row_len..].chunks_exact(row_len);
        for (weight, row) in window.weights.iter().zip(rows) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(value);
            }
        }
        for (value, &sum) in out_row.iter_mut().zip(&sums) {
            *value = to_u8(sum);
        }
    }
}
