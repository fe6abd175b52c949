//! Whether a face can be judged at all: sharpness, exposure, size and pose, as numbers.

use serde::{Deserialize, Serialize};

use crate::{
    chip::chip,
    face::{FAIRFACE_PADDING, FAIRFACE_SIDE, Face},
    photo::{Photo, Point},
    similarity::Similarity,
};

/// What the picture of a face is like. Everything is measured on its 224-pixel FairFace chip, so that faces of any size
/// compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Variance of the Laplacian of the grey chip (Pech-Pacheco et al. 2000), divided by the variance of the grey
    /// values: contrast and brightness do not count. Below about 0.002 a face is a blur.
    pub sharpness: f32,
    /// Mean grey value, 0 black to 1 white.
    pub brightness: f32,
    /// Share of pixels that are black or white to within 2 %.
    pub clipped: f32,
    /// How far the nose is beside the middle of the eyes, in distances of the eyes' outer corners: 0 looks straight
    /// ahead, above 0 to picture right. About 0.3 is half profile.
    pub yaw: f32,
}

impl Quality {
    /// Looks at a face.
    pub fn of(photo: &Photo<'_>, face: &Face) -> Self {
        Self::of_chip(&chip(photo, face, FAIRFACE_SIDE, FAIRFACE_PADDING), face)
    }

    /// As [`Quality::of`], for whoever has the (224,224,3) chip with padding 0.25.
    ///
    /// # Panics
    /// A chip of another size.
    pub fn of_chip(chip: &[u8], face: &Face) -> Self {
        let side = FAIRFACE_SIDE;
        assert!(
            chip.len() == side * side * 3,
            "expected a chip of {side} pixels, found {} bytes",
            chip.len()
        );
        // Rec. 601, as OpenCV's grey.
        let grey = |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        let grey: Vec<f32> = chip.chunks_exact(3).map(grey).collect();
        // The face without its surroundings: what the padding holds may be black, or another picture.
        let inner = || {
            (side / 6..side - side / 6).flat_map(|y| (side / 6..side - side / 6).map(move |x| y * side + x))
        };
        let laplacian =
            |i: usize| grey[i - 1] + grey[i + 1] + grey[i - side] + grey[i + side] - 4.0 * grey[i];
        let (mean, variance) = moments(inner().map(|i| grey[i]));
        let (_, edges) = moments(inner().map(laplacian));
        let n = inner().count() as f32;
        let clipped = inner().filter(|&i| grey[i] < 5.0 || grey[i] > 250.0).count() as f32 / n;
        Quality {
            sharpness: if variance > 0.0 { edges / variance } else { 0.0 },
            brightness: mean / 255.0,
            clipped,
            yaw: yaw(face),
        }
    }
}

/// Mean and variance.
fn moments(values: impl Iterator<Item = f32>) -> (f32, f32) {
    let (n, sum, squares) = values.fold((0.0, 0.0, 0.0), |(n, sum, squares), v| {
        let v = f64::from(v);
        (n + 1.0, sum + v, squares + v * v)
    });
    let mean: f64 = sum / n;
    (mean as f32, (squares / n - mean * mean).max(0.0) as f32)
}

/// The nose beside the middle of the eyes, upright.
fn yaw(face: &Face) -> f32 {
    let template = face.landmarks.template(FAIRFACE_SIDE, FAIRFACE_PADDING);
    let to_chip = Similarity::fit(&face.landmarks.points().map(Point::exact), &template);
    let upright: [Point; 5] = face.landmarks.points().map(|p| to_chip.apply(p));
    let (left, right, nose) = match face.landmarks {
        crate::Landmarks::Corners { .. } => (upright[2], upright[0], upright[4]),
        crate::Landmarks::Centres { .. } => (upright[0], upright[1], upright[2]),
    };
    (nose.x - (left.x + right.x) / 2.0) / (right.x - left.x).max(1.0)
}
