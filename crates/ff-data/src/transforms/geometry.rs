//! Flip, rotation and affine maps, as torchvision's tensor functions: nearest neighbour, fill 0.
//! [`bilinear`] is the one that torchvision has no name for: all maps composed, and one smooth resampling.
//!
//! An output pixel looks up its source through the inverse map, about the image's centre, with pixel centres at
//! half-integers (`grid_sample(align_corners=False)`), rounded half to even. The arithmetic follows torchvision's
//! normalised grid in f32, so that only pixels within an ulp of a tie can differ.

use ff_kernels::image::compose;

use super::params::{AffineParams, AugmentParams};
use crate::rgb_image::ImageSize;

/// Mirrors left and right, in place.
pub fn hflip(planes: &mut [f32], size: ImageSize) {
    for row in planes.chunks_exact_mut(size.width) {
        row.reverse();
    }
}

/// Rotates by `degrees` counter-clockwise about the centre, in place.
pub fn rotate(planes: &mut [f32], size: ImageSize, degrees: f64, spare: &mut Vec<f32>) {
    InverseAffine::rotation(degrees).resample(planes, size, spare);
}

/// Scales about the centre, then shifts, in place.
pub fn affine(planes: &mut [f32], size: ImageSize, params: &AffineParams, spare: &mut Vec<f32>) {
    InverseAffine::translation_scale(params).resample(planes, size, spare);
}

/// Rotates and scales as `params` says in one bilinear resampling, in place. Positions outside the image count as 0.
///
/// A sequence of nearest-neighbour maps shifts edges by up to half a pixel each; this one interpolates once.
pub fn bilinear(params: &AugmentParams, planes: &mut [f32], size: ImageSize, spare: &mut Vec<f32>) {
    let rotation = params.rotation.map(InverseAffine::rotation);
    let map = match (rotation, params.affine.as_ref().map(InverseAffine::translation_scale)) {
        (Some(first), Some(last)) => first.after(&last),
        (Some(map), None) | (None, Some(map)) => map,
        (None, None) => return,
    };
    spare.clear();
    spare.extend_from_slice(planes);
    let (width, height) = (size.width as i32, size.height as i32);
    let (center_x, center_y) = (0.5 * (size.width as f32 - 1.0), 0.5 * (size.height as f32 - 1.0));
    let [xx, xy, x0, yx, yy, y0] = map.0;
    for i in 0..size.area() {
        let (x, y) = ((i % size.width) as f32 - center_x, (i / size.width) as f32 - center_y);
        let (from_x, from_y) = (x * xx + y * xy + x0 + center_x, x * yx + y * yy + y0 + center_y);
        let (left, top) = (from_x.floor(), from_y.floor());
        let (right_share, lower_share) = (from_x - left, from_y - top);
        let mut sums = [0.0; 3];
        for (dy, share_y) in [(0, 1.0 - lower_share), (1, lower_share)] {
            for (dx, share_x) in [(0, 1.0 - right_share), (1, right_share)] {
                let (x, y) = (left as i32 + dx, top as i32 + dy);
                if (0..width).contains(&x) && (0..height).contains(&y) {
                    let at = (y * width + x) as usize;
                    for (channel, sum) in sums.iter_mut().enumerate() {
                        *sum += share_x * share_y * spare[channel * size.area() + at];
                    }
                }
            }
        }
        for (channel, sum) in sums.into_iter().enumerate() {
            planes[channel * size.area() + i] = sum;
        }
    }
}

/// The map from an output pixel to its source, about the centre: `x' = m0 x + m1 y + m2`, `y' = m3 x + m4 y + m5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InverseAffine(pub [f32; 6]);

impl InverseAffine {
    /// Undoes a counter-clockwise rotation.
    pub fn rotation(degrees: f64) -> Self {
        let (sin, cos) = (-degrees).to_radians().sin_cos();
        InverseAffine([cos, sin, 0.0, -sin, cos, 0.0].map(|m| m as f32))
    }

    /// Undoes a scale about the centre followed by a shift.
    pub fn translation_scale(params: &AffineParams) -> Self {
        let inverse = 1.0 / params.scale;
        let (x, y) = params.translate;
        let shift = |pixels: i32| -f64::from(pixels) * inverse;
        InverseAffine([inverse, 0.0, shift(x), 0.0, inverse, shift(y)].map(|m| m as f32))
    }

    /// The map that takes an output pixel through `last` and then through `self`.
    fn after(&self, last: &InverseAffine) -> Self {
        InverseAffine(compose(&self.0, &last.0))
    }

    /// Resamples three planes in place.
    fn resample(&self, planes: &mut [f32], size: ImageSize, spare: &mut Vec<f32>) {
        spare.clear();
        spare.extend_from_slice(planes);
        let area = size.area();
        let (from_r, rest) = spare.split_at(area);
        let (from_g, from_b) = rest.split_at(area);
        let (r, rest) = planes.split_at_mut(area);
        let (g, b) = rest.split_at_mut(area);

        // Two loops per row: the first is arithmetic only and vectorises, the second only moves pixels.
        let mut sources = Sources::new(self, size);
        let rows = r.chunks_exact_mut(size.width).zip(g.chunks_exact_mut(size.width));
        for (row, ((r, g), b)) in rows.zip(b.chunks_exact_mut(size.width)).enumerate() {
            for (((r, g), b), &source) in r.iter_mut().zip(g).zip(b).zip(sources.of_row(row)) {
                (*r, *g, *b) = match usize::try_from(source) {
                    Ok(i) => (from_r[i], from_g[i], from_b[i]),
                    Err(_) => (0.0, 0.0, 0.0),
                };
            }
        }
    }
}

/// Which pixel each one comes from: the nearest to where an inverse map points.
pub(super) struct Sources {
    map: [f32; 6],
    size: ImageSize,
    row: Vec<i32>,
}

impl Sources {
    pub(super) fn new(map: &InverseAffine, size: ImageSize) -> Self {
        let [xx, xy, x0, yx, yy, y0] = map.0;
        let [xx, xy, x0] = [xx, xy, x0].map(|m| m / (0.5 * size.width as f32));
        let [yx, yy, y0] = [yx, yy, y0].map(|m| m / (0.5 * size.height as f32));
        Self { map: [xx, xy, x0, yx, yy, y0], size, row: vec![OUTSIDE; size.width] }
    }

    /// The sources of a row's pixels as places in the image, negative outside it.
    pub(super) fn of_row(&mut self, row: usize) -> &[i32] {
        let (width, height) = (self.size.width as f32, self.size.height as f32);
        let [xx, xy, x0, yx, yy, y0] = self.map;
        let y = row as f32 + 0.5 - 0.5 * height;
        for (column, source) in self.row.iter_mut().enumerate() {
            let x = column as i32 as f32 + 0.5 - 0.5 * width;
            let from_x = round((x * xx + y * xy + x0 + 1.0) * (0.5 * width) - 0.5);
            let from_y = round((x * yx + y * yy + y0 + 1.0) * (0.5 * height) - 0.5);
            let inside = from_x >= 0.0 && from_x < width && from_y >= 0.0 && from_y < height;
            *source = if inside { from_y as i32 * self.size.width as i32 + from_x as i32 } else { OUTSIDE };
        }
        &self.row
    }
}

const OUTSIDE: i32 = -1;

/// Half to even, for `|x| < 2^22`: beyond 2^23 f32 has no fraction bits left, so the addition rounds. Without SSE4.1,
/// which is not in the x86-64 baseline, `round_ties_even` is a library call per pixel.
fn round(x: f32) -> f32 {
    const BIG: f32 = 1.5 * (1 << 23) as f32;
    (x + BIG) - BIG
}
