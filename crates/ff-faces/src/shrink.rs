//! Shrinking by area: every pixel of the photo counts by how much of it lies under the new one (OpenCV's INTER_AREA).

use crate::photo::Photo;

/// The photo in `width` x `height` pixels, neither more than it has: (height,width,3), rounded to nearest.
pub(crate) fn shrink(photo: &Photo<'_>, width: usize, height: usize) -> Vec<u8> {
    assert!(
        (1..=photo.width).contains(&width) && (1..=photo.height).contains(&height),
        "expected a size of at most {} x {}, found {width} x {height}",
        photo.width,
        photo.height
    );
    if (width, height) == (photo.width, photo.height) {
        return photo.pixels.to_vec();
    }
    let columns = shares(photo.width, width);
    let mut out = Vec::with_capacity(width * height * 3);
    let row_len = photo.width * 3;
    let mut sums = vec![0f32; row_len];
    for rows in shares(photo.height, height) {
        sums.fill(0.0);
        for (i, share) in rows.weights.iter().enumerate() {
            let row = &photo.pixels[(rows.first + i) * row_len..][..row_len];
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += share * f32::from(value);
            }
        }
        for pixel in &columns {
            let mut rgb = [0f32; 3];
            for (share, value) in pixel.weights.iter().zip(sums[pixel.first * 3..].chunks_exact(3)) {
                for c in 0..3 {
                    rgb[c] += share * value[c];
                }
            }
            out.extend(rgb.map(|value| (value + 0.5) as u8));
        }
    }
    out
}

/// The pixels under a new one, and how much each counts; the weights add up to 1.
struct Shares {
    first: usize,
    weights: Vec<f32>,
}

fn shares(from: usize, to: usize) -> Vec<Shares> {
    let ratio = from as f64 / to as f64;
    let share = |i: usize| {
        let (low, high) = (i as f64 * ratio, ((i + 1) as f64 * ratio).min(from as f64));
        let (first, end) = (low as usize, (high.ceil() as usize).clamp(low as usize + 1, from));
        let overlap = |pixel: usize| (high.min(pixel as f64 + 1.0) - low.max(pixel as f64)) / ratio;
        Shares { first, weights: (first..end).map(|pixel| overlap(pixel) as f32).collect() }
    };
    (0..to).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_counts_by_its_area() {
        let photo = Photo { width: 3, height: 1, pixels: &[30, 0, 0, 60, 0, 0, 90, 0, 0] };
        // 3 -> 2: 1 + 1/2 pixels each.
        let [left, right] = [(30.0 + 30.0) / 1.5, (30.0 + 90.0) / 1.5];
        assert_eq!(shrink(&photo, 2, 1), [left as u8, 0, 0, right as u8, 0, 0]);
        assert_eq!(shrink(&photo, 1, 1), [60, 0, 0]);
    }

    #[test]
    fn one_colour_stays_one_colour_at_any_ratio() {
        let pixels = vec![201; 37 * 23 * 3];
        let photo = Photo { width: 37, height: 23, pixels: &pixels };
        for (width, height) in [(37, 23), (36, 22), (19, 7), (1, 1), (5, 23)] {
            assert!(shrink(&photo, width, height).iter().all(|&v| v == 201), "{width} x {height}");
        }
    }
}
