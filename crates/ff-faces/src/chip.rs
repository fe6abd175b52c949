//! From a photo to an upright crop, by dlib's sampling: FairFace's crops are dlib's face chips.

use std::borrow::Cow;

use crate::{
    face::Face,
    photo::{Photo, Point},
    shrink::shrink,
    similarity::Similarity,
};

/// The face as an upright square (size,size,3), as dlib's `extract_image_chip` cuts it: bilinear, black outside the
/// photo, values truncated. Released FairFace crops are chips of 224 pixels with padding 0.25, and of 448 with 1.25.
///
/// The bytes are dlib's where the face is shrunk by 2 or less. Beyond that the photo is shrunk first, by an area
/// filter in the place of dlib's pyramid.
///
/// # Panics
/// `size` is 0.
pub fn chip(photo: &Photo<'_>, face: &Face, size: usize, padding: f32) -> Vec<u8> {
    assert!(size > 0, "expected a chip of at least one pixel");
    // dlib aligns by points in whole pixels.
    let points =
        face.landmarks.points().map(|p| (f64::from((p.x + 0.5).floor()), f64::from((p.y + 0.5).floor())));
    let to_photo = Similarity::fit(&face.landmarks.template(size, padding), &points);
    warp(photo, &to_photo, size)
}

/// A square of `size` pixels whose places `to_photo` maps into the photo.
pub(crate) fn warp(photo: &Photo<'_>, to_photo: &Similarity, size: usize) -> Vec<u8> {
    let factor = to_photo.scale() / 2.0;
    if !factor.is_finite() || factor <= 0.0 {
        return vec![0; size * size * 3];
    }
    if factor <= 1.0 {
        return sample(photo, to_photo, size);
    }
    // Only what the chip covers is shrunk: a chip of a large photo takes the chip's memory, not the photo's.
    let corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)];
    let corners = corners.map(|(x, y)| to_photo.apply(Point::new(x * size as f32, y * size as f32)));
    let margin = 2.0 * factor;
    let span = |of: fn(&Point) -> f32, len: usize| {
        let low = corners.iter().map(of).fold(f32::INFINITY, f32::min) - margin;
        let high = corners.iter().map(of).fold(f32::NEG_INFINITY, f32::max) + margin;
        (low.floor().clamp(0.0, len as f32) as usize, high.ceil().clamp(0.0, len as f32) as usize)
    };
    let ((x0, x1), (y0, y1)) = (span(|p| p.x, photo.width), span(|p| p.y, photo.height));
    if x0 >= x1 || y0 >= y1 {
        return vec![0; size * size * 3];
    }
    let part = part_of(photo, x0, y0, x1 - x0, y1 - y0);
    let part = Photo { width: x1 - x0, height: y1 - y0, pixels: &part };
    let shrunk_len = |len: usize| ((len as f32 / factor).ceil() as usize).max(1);
    let (width, height) = (shrunk_len(part.width), shrunk_len(part.height));
    let small = shrink(&part, width, height);
    // Middles of pixels: (x + 1/2) / ratio - 1/2.
    let ratios = (part.width as f64 / width as f64, part.height as f64 / height as f64);
    let ratio = (ratios.0 + ratios.1) / 2.0;
    let (re, im) = to_photo.a;
    let shift = |b: f64, first: usize, ratio: f64| (b - first as f64 + 0.5) / ratio - 0.5;
    let to_small = Similarity {
        a: (re / ratio, im / ratio),
        b: (shift(to_photo.b.0, x0, ratios.0), shift(to_photo.b.1, y0, ratios.1)),
    };
    sample(&Photo { width, height, pixels: &small }, &to_small, size)
}

/// The pixels of a rectangle inside the photo; not copied where it is as wide as the photo.
pub(crate) fn part_of<'a>(
    photo: &Photo<'a>,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
) -> Cow<'a, [u8]> {
    let row_len = photo.width * 3;
    if width == photo.width {
        return Cow::Borrowed(&photo.pixels[y * row_len..][..height * row_len]);
    }
    let rows = photo.pixels.chunks_exact(row_len).skip(y).take(height);
    Cow::Owned(rows.flat_map(|row| &row[x * 3..][..width * 3]).copied().collect())
}

/// dlib's `extract_image_chip` for a scale of at most 2.
fn sample(photo: &Photo<'_>, to_photo: &Similarity, size: usize) -> Vec<u8> {
    let (re, im) = to_photo.a;
    let scale = re.hypot(im);
    let side = size as f64;
    // dlib maps a rotated rectangle around the chip's middle, whose corners are the middles of its corner pixels.
    let half = side / 2.0;
    let center = (re * half - im * half + to_photo.b.0, im * half + re * half + to_photo.b.1);
    let inner = if size > 1 { (side - 1.0 / scale) / (side - 1.0) } else { 0.0 };
    let (re, im) = (re * inner, im * inner);
    let middle = (side - 1.0) / 2.0;
    let mut out = vec![0; size * size * 3];
    for (row, pixels) in out.chunks_exact_mut(size * 3).enumerate() {
        let dy = row as f64 - middle;
        for (column, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let dx = column as f64 - middle;
            let x = center.0 + (re * dx - im * dy);
            let y = center.1 + (im * dx + re * dy);
            pixel.copy_from_slice(&bilinear(photo, x, y));
        }
    }
    out
}

/// dlib's `interpolate_bilinear`: 0 where one of the four neighbours lies outside.
#[inline]
fn bilinear(photo: &Photo<'_>, x: f64, y: f64) -> [u8; 3] {
    // A cast rounds down what is not negative, and is an instruction; `floor` is a call on plain x86-64.
    let inside = x >= 0.0 && y >= 0.0 && x < (photo.width - 1) as f64 && y < (photo.height - 1) as f64;
    if !inside {
        return [0; 3];
    }
    let (left, top) = (x as usize, y as usize);
    let (fx, fy) = (x - left as f64, y - top as f64);
    let at = (top * photo.width + left) * 3;
    let pair = |at: usize| -> &[u8; 6] { photo.pixels[at..].first_chunk().expect("two pixels of a row") };
    let (above, below) = (pair(at), pair(at + photo.width * 3));
    std::array::from_fn(|c| {
        let [tl, tr, bl, br] = [above[c], above[c + 3], below[c], below[c + 3]].map(f64::from);
        // Between 0 and 255: no saturation is needed.
        ((1.0 - fy) * ((1.0 - fx) * tl + fx * tr) + fy * ((1.0 - fx) * bl + fx * br)) as i32 as u8
    })
}
