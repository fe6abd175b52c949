//! dlib's five-point shape predictor: an ensemble of regression trees moves five points from a mean shape onto a face.
//!
//! After Kazemi and Sullivan, "One millisecond face alignment with an ensemble of regression trees" (CVPR 2014), as
//! dlib computes it: every step rounds as dlib's does, so that rounded points are equal. The trees are dlib's own
//! (`shape_predictor_5_face_landmarks.dat`, CC0), with leaves in 8 bits, which moves points by about a pixel of a
//! 150-pixel face.

use safetensors::SafeTensors;

use crate::{
    photo::{Photo, Point, Rect},
    similarity::Similarity,
    tensors,
};

const CASCADES: usize = 15;
const TREES: usize = 500;
const SPLITS: usize = 15;
const LEAVES: usize = 16;
const PROBES: usize = 800;
/// Five points of two coordinates.
const SHAPE_LEN: usize = 10;

/// The ensemble, unpacked.
pub(crate) struct Trees {
    /// (5,2): the mean shape in the unit square of the face's rectangle.
    initial: [Point; 5],
    /// (15,800): the point that a probe hangs on, and how far from it.
    probes: Vec<(u8, Point)>,
    /// (15,500,15): two probes, and the difference above which the left branch is taken.
    splits: Vec<Split>,
    /// (15,500,16,10)
    leaves: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Split {
    first: u16,
    second: u16,
    threshold: f32,
}

impl Trees {
    /// The ones in this crate.
    pub fn embedded() -> Self {
        Self::from_safetensors(include_bytes!("../data/dlib5_ert_i8.safetensors"))
            .expect("the trees inside this crate are whole")
    }

    /// Trees from a file: leaves as f32, or in 8 bits with a scale a tree.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let read = |name: &str, shape: &[usize]| tensors::floats(&file, name, shape);
        let leaves = match file.tensor("leaf") {
            Ok(_) => read("leaf", &[CASCADES, TREES, LEAVES, SHAPE_LEN])?,
            Err(_) => {
                let mut leaves = read("leaf_q", &[CASCADES, TREES, LEAVES, SHAPE_LEN])?;
                let scales = read("leaf_scale", &[CASCADES, TREES])?;
                for (tree, scale) in leaves.chunks_exact_mut(LEAVES * SHAPE_LEN).zip(scales) {
                    tree.iter_mut().for_each(|leaf| *leaf *= scale);
                }
                leaves
            }
        };
        let anchors = read("anchor", &[CASCADES, PROBES])?;
        let indices = read("split_index", &[CASCADES, TREES, SPLITS, 2])?;
        let sound = anchors.iter().all(|&i| i < 5.0) && indices.iter().all(|&i| i < PROBES as f32);
        if !sound {
            return Err("expected probes below 800 on points below 5, found others".to_owned());
        }
        let deltas = read("delta", &[CASCADES, PROBES, 2])?;
        let thresholds = read("split_threshold", &[CASCADES, TREES, SPLITS])?;
        let split = |(pair, threshold): (&[f32], f32)| Split {
            first: pair[0] as u16,
            second: pair[1] as u16,
            threshold,
        };
        let mut initial = [Point::default(); 5];
        initial.iter_mut().zip(points(&read("initial_shape", &[5, 2])?)).for_each(|(to, from)| *to = from);
        Ok(Trees {
            initial,
            probes: anchors
                .iter()
                .zip(points(&deltas))
                .map(|(&anchor, delta)| (anchor as u8, delta))
                .collect(),
            splits: indices.chunks_exact(2).zip(thresholds).map(split).collect(),
            leaves,
        })
    }

    /// The five points of the face in a square: dlib's order, in pixels of the photo, not rounded.
    pub fn landmarks(&self, photo: &Photo<'_>, square: Square) -> [Point; 5] {
        let mut shape = self.initial;
        let mut values = [0i16; PROBES];
        let per_cascade = self.probes.chunks_exact(PROBES).zip(self.splits.chunks_exact(TREES * SPLITS));
        let leaves = self.leaves.chunks_exact(TREES * LEAVES * SHAPE_LEN);
        for ((probes, splits), leaves) in per_cascade.zip(leaves) {
            self.probe(photo, square, &shape, probes, &mut values);
            let trees = splits.chunks_exact(SPLITS).zip(leaves.chunks_exact(LEAVES * SHAPE_LEN));
            for (splits, leaves) in trees {
                let mut node = 0;
                while let Some(split) = splits.get(node) {
                    let difference = values[usize::from(split.first)] - values[usize::from(split.second)];
                    node = 2 * node + if f32::from(difference) > split.threshold { 1 } else { 2 };
                }
                let leaf = &leaves[(node - SPLITS) * SHAPE_LEN..][..SHAPE_LEN];
                for (point, step) in shape.iter_mut().zip(leaf.chunks_exact(2)) {
                    point.x += step[0];
                    point.y += step[1];
                }
            }
        }
        shape.map(|point| square.place(point))
    }

    /// Grey values at the probes, which move with the shape.
    fn probe(
        &self,
        photo: &Photo<'_>,
        square: Square,
        shape: &[Point; 5],
        probes: &[(u8, Point)],
        values: &mut [i16; PROBES],
    ) {
        let (re, im) = Similarity::between(&self.initial, shape).a;
        let (re, im) = (re as f32, im as f32);
        for (value, (anchor, delta)) in values.iter_mut().zip(probes) {
            let from = shape[usize::from(*anchor)];
            let moved =
                Point::new(from.x + (re * delta.x - im * delta.y), from.y + (im * delta.x + re * delta.y));
            let at = square.place(moved);
            *value = grey(photo, at.x + 0.5, at.y + 0.5);
        }
    }
}

/// The square of a face that the trees work in: whole pixels, as dlib's rectangles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Square {
    pub left: i32,
    pub top: i32,
    pub right: i32,
    pub bottom: i32,
}

impl Square {
    /// The square that dlib's detector would give for a box of YuNet's.
    pub fn of(bounds: &Rect) -> Self {
        let size = (f64::from(bounds.width) * f64::from(bounds.height)).sqrt();
        let half = 0.96 * size / 2.0;
        let x = f64::from(bounds.x) + f64::from(bounds.width) / 2.0;
        let y = f64::from(bounds.y) + f64::from(bounds.height) / 2.0 - 0.03 * size;
        let round = |v: f64| (v + 0.5).floor() as i32;
        Square {
            left: round(x - half),
            top: round(y - half),
            right: round(x + half),
            bottom: round(y + half),
        }
    }

    /// From its unit square to the photo.
    fn place(&self, p: Point) -> Point {
        let (width, height) = (self.right.saturating_sub(self.left), self.bottom.saturating_sub(self.top));
        Point::new(p.x * width as f32 + self.left as f32, p.y * height as f32 + self.top as f32)
    }
}

/// dlib's grey, (r + g + b) / 3 in whole numbers, of the pixel that (x, y) rounds down to; 0 outside.
fn grey(photo: &Photo<'_>, x: f32, y: f32) -> i16 {
    let inside = x >= 0.0 && y >= 0.0 && x < photo.width as f32 && y < photo.height as f32;
    if !inside {
        return 0;
    }
    let sum: u16 = photo.pixel(x as usize, y as usize).map(u16::from).iter().sum();
    (sum / 3) as i16
}

fn points(values: &[f32]) -> impl Iterator<Item = Point> {
    values.chunks_exact(2).map(|v| Point::new(v[0], v[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chip::chip,
        face::{Face, Landmarks},
        golden::{Golden, photo},
    };

    #[test]
    fn rounded_points_are_dlibs() {
        let Some(golden) = Golden::open() else { return };
        let trees = Trees::from_safetensors(&golden.bytes("faces/dlib5_ert.safetensors")).unwrap();
        let small = Trees::embedded();
        for (file, case) in [("astronaut.png", "astronaut_512"), ("fairface_montage.png", "montage_640")] {
            let (width, height, pixels) = photo(file);
            let photo = Photo::new(width, height, &pixels).unwrap();
            let rects = golden.integers(&format!("{case}.dlib5.rect_ltrb"));
            let expected = golden.integers(&format!("{case}.dlib5.landmarks_rounded"));
            for (rect, expected) in rects.chunks_exact(4).zip(expected.chunks_exact(10)) {
                let square = Square { left: rect[0], top: rect[1], right: rect[2], bottom: rect[3] };
                let found =
                    trees.landmarks(&photo, square).map(|p| [(p.x + 0.5).floor(), (p.y + 0.5).floor()]);
                assert_eq!(found.concat(), expected.iter().map(|&v| v as f32).collect::<Vec<_>>(), "{case}");
                // Leaves of 8 bits: within 2 % of the face.
                let near = 0.02 * (square.right - square.left) as f32;
                for (found, expected) in small.landmarks(&photo, square).iter().zip(expected.chunks_exact(2))
                {
                    let distance = (found.x - expected[0] as f32).hypot(found.y - expected[1] as f32);
                    assert!(distance < near + 1.0, "{case}: {distance} pixels off");
                }
            }
        }
    }

    #[test]
    fn a_chip_has_dlibs_bytes() {
        let Some(golden) = Golden::open() else { return };
        let (width, height, pixels) = photo("astronaut.png");
        let photo = Photo::new(width, height, &pixels).unwrap();
        let points = golden.integers("astronaut_512.dlib5.landmarks_rounded");
        let mut corners = [Point::default(); 5];
        for (corner, point) in corners.iter_mut().zip(points.chunks_exact(2)) {
            *corner = Point::new(point[0] as f32, point[1] as f32);
        }
        let face = Face::from_landmarks(Landmarks::corners(corners)).unwrap();
        let found = chip(&photo, &face, 224, 0.25);
        let expected = golden.pixels("astronaut_512.dlib5.chips_rgb");
        let wrong = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(wrong, 0, "bytes of {}", expected.len());
    }
}
