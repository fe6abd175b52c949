//! A detection's landmarks: in the photo where the face is surely upright, else in a window that is turned along.
//!
//! YuNet turns the points of a tilted face towards upright, and finds many a face that lies on its side or upside down
//! without knowing that it does, though less surely. So what it is not sure of is looked at in eight small windows, an
//! eighth of a turn apart; what is tilted once more in a large one along its points; and the trees look there.

use std::f64::consts::FRAC_PI_4;

use super::{Detector, SAME_FACE};
use crate::{
    chip::warp,
    face::{FAIRFACE_SIDE, Face, Landmarks},
    photo::{Photo, Point, Rect},
    similarity::Similarity,
    trees::Square,
    yunet::Detection,
};

/// From this roll on, in degrees, a face is looked at in a window turned along.
const TILTED: f32 = 10.0;
/// Seven of eight upright faces score more, and two of a hundred that lie on their side.
const SURE: f32 = 0.9;
/// By how much more a window must score than the one that is as the photo is.
const CLEARLY: f32 = 0.04;
/// Pixels of a chip around it in a window.
const MARGIN: usize = 56;
/// In a window where a face is known to be, less is enough.
const WINDOW_SCORE: f32 = 0.3;
/// YuNet's boxes in FairFace's crops, on average.
const EXPECTED: Rect = Rect { x: 23.0, y: -9.5, width: 176.0, height: 225.0 };

/// A part of the photo in which a face should be upright.
struct Window {
    pixels: Vec<u8>,
    side: usize,
    to_photo: Similarity,
    /// The face in the window's own pixels; where it is expected if it was not found.
    bounds: Rect,
    /// The score and the points in the photo, if it was found.
    found: Option<(f32, [Point; 5])>,
}

impl Window {
    fn photo(&self) -> Photo<'_> {
        Photo { width: self.side, height: self.side, pixels: &self.pixels }
    }

    fn score(&self) -> f32 {
        self.found.map_or(0.0, |(score, _)| score)
    }
}

impl Detector {
    /// A detection with its landmarks.
    pub(super) fn face(&mut self, photo: &Photo<'_>, detection: &Detection) -> Face {
        let Detection { bounds, score, points } = *detection;
        let mut upright = Landmarks::centres(points).chip_to_photo();
        if score < SURE {
            upright = self.surest_turn(photo, &bounds).unwrap_or(upright);
        }
        if upright.roll().abs() <= TILTED {
            return Face::new(bounds, Some(score), self.corners(photo, &bounds));
        }
        let mut window = self.window(photo, &upright, 1);
        // The points of the first look may have been far off: once more along better ones.
        if let Some((first, points)) = window.found {
            let again = Landmarks::centres(points).chip_to_photo();
            let turned = (again.roll() - upright.roll() + 540.0).rem_euclid(360.0) - 180.0;
            if turned.abs() > TILTED {
                let second = self.window(photo, &again, 1);
                if second.score() >= first {
                    window = second;
                }
            }
        }
        let points = self.trees.landmarks(&window.photo(), Square::of(&window.bounds));
        let points = points.map(|p| window.to_photo.apply(p));
        Face::new(bounds, Some(score), Landmarks::corners(points))
    }

    /// dlib's points of an upright face.
    pub(super) fn corners(&self, photo: &Photo<'_>, bounds: &Rect) -> Landmarks {
        Landmarks::corners(self.trees.landmarks(photo, Square::of(bounds)))
    }

    /// How a face lies in the photo by the surest of eight windows around its box; `None` where it is seen in none.
    fn surest_turn(&mut self, photo: &Photo<'_>, bounds: &Rect) -> Option<Similarity> {
        let scale = f64::from((bounds.area() / EXPECTED.area()).sqrt());
        let (mut best, mut most) = (None::<Window>, 0.0);
        for eighth in 0..8 {
            let (sin, cos) = (f64::from(eighth) * FRAC_PI_4).sin_cos();
            let a = (scale * cos, scale * sin);
            let upright = Similarity::around(a, EXPECTED.center(), bounds.center());
            let window = self.window(photo, &upright, 2);
            // The first is as the photo is, and so are most faces.
            let worth = if eighth == 0 { window.score() + CLEARLY } else { window.score() };
            if worth > most {
                (best, most) = (Some(window), worth);
            }
        }
        let (_, points) = best?.found?;
        Some(Landmarks::centres(points).chip_to_photo())
    }

    /// A look into the window around a chip, at the chip's size or a fraction of it.
    fn window(&mut self, photo: &Photo<'_>, upright: &Similarity, fraction: usize) -> Window {
        let (side, margin) = ((FAIRFACE_SIDE + 2 * MARGIN) / fraction, MARGIN as f32);
        let step = fraction as f32;
        let to_photo = upright.after(step, -margin);
        let pixels = warp(photo, &to_photo, side);
        let expected = Rect {
            x: (EXPECTED.x + margin) / step,
            y: (EXPECTED.y + margin) / step,
            width: EXPECTED.width / step,
            height: EXPECTED.height / step,
        };
        let mut window = Window { pixels, side, to_photo, bounds: expected, found: None };
        let found = self.n.detect(&window.photo(), WINDOW_SCORE, &mut self.maps);
        let overlap = |d: &Detection| d.bounds.iou(&expected);
        let nearest = found.into_iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
        if let Some(detection) = nearest.filter(|d| overlap(d) >= SAME_FACE) {
            window.bounds = detection.bounds;
            window.found = Some((detection.score, detection.points.map(|p| to_photo.apply(p))));
        }
        window
    }
}
