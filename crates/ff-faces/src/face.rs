//! A face: where it is, its landmarks, and the similarity that turns it upright.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    photo::{Point, Rect},
    similarity::Similarity,
};

/// The side of the chip that [`Face::scale`] refers to, and FairFace's padding: the crops that FairFace released.
pub(crate) const FAIRFACE_SIDE: usize = 224;
/// The share of a face that FairFace's crops have around it on every side.
pub const FAIRFACE_PADDING: f32 = 0.25;

/// A face in a photo.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// What the detector put around it, or what was given.
    #[serde(rename = "box")]
    pub bounds: Rect,
    /// How sure the detector is, 0 to 1; `None` where it was not asked, or sees no face where somebody else does.
    pub score: Option<f32>,
    /// Five points.
    pub landmarks: Landmarks,
    /// By how many degrees the face is turned clockwise in the photo.
    pub roll: f32,
    /// Pixels of the photo in one pixel of a 224-pixel FairFace crop: above 1 the crop is shrunk, below it is blown up.
    pub scale: f32,
}

/// Five points of a face, by one of two conventions. Left and right are the person's: the right eye is at picture left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landmarks {
    /// dlib's, which FairFace's crops were aligned by.
    Corners {
        /// Outer corner of the left eye.
        left_outer: Point,
        /// Inner corner of the left eye.
        left_inner: Point,
        /// Outer corner of the right eye.
        right_outer: Point,
        /// Inner corner of the right eye.
        right_inner: Point,
        /// Base of the nose.
        nose_base: Point,
    },
    /// MTCNN's, RetinaFace's, YuNet's.
    Centres {
        /// Right eye.
        right_eye: Point,
        /// Left eye.
        left_eye: Point,
        /// Tip of the nose.
        nose: Point,
        /// Right corner of the mouth.
        mouth_right: Point,
        /// Left corner of the mouth.
        mouth_left: Point,
    },
}

impl Landmarks {
    /// dlib's five points in its order.
    pub fn corners([left_outer, left_inner, right_outer, right_inner, nose_base]: [Point; 5]) -> Self {
        Landmarks::Corners { left_outer, left_inner, right_outer, right_inner, nose_base }
    }

    /// YuNet's five points in its order.
    pub fn centres([right_eye, left_eye, nose, mouth_right, mouth_left]: [Point; 5]) -> Self {
        Landmarks::Centres { right_eye, left_eye, nose, mouth_right, mouth_left }
    }

    /// The points in their convention's order.
    pub fn points(&self) -> [Point; 5] {
        match *self {
            Landmarks::Corners { left_outer, left_inner, right_outer, right_inner, nose_base } => {
                [left_outer, left_inner, right_outer, right_inner, nose_base]
            }
            Landmarks::Centres { right_eye, left_eye, nose, mouth_right, mouth_left } => {
                [right_eye, left_eye, nose, mouth_right, mouth_left]
            }
        }
    }

    /// From places in a 224-pixel FairFace crop to the photo.
    pub(crate) fn chip_to_photo(&self) -> Similarity {
        Similarity::fit(&self.template(FAIRFACE_SIDE, FAIRFACE_PADDING), &self.points().map(Point::exact))
    }

    /// Where the points of FairFace's crops lie in a chip of `side` pixels with so much padding around the face.
    ///
    /// Corners: dlib's `get_face_chip_details`. Centres: medians over FairFace's crops and photos, made symmetrical,
    /// in a chip of 224 pixels and padding 0.25.
    pub(crate) fn template(&self, side: usize, padding: f32) -> [(f64, f64); 5] {
        const CORNERS: [(f64, f64); 5] = [
            (0.8595674595992, 0.2134981538014),
            (0.6460604764104, 0.2289674387677),
            (0.1205750620789, 0.2137274526848),
            (0.3340850613712, 0.2290642403242),
            (0.4901123135679, 0.6277975316475),
        ];
        const CENTRES: [(f64, f64); 5] =
            [(71.3, 67.6), (152.7, 67.6), (112.0, 115.5), (77.4, 153.5), (146.6, 153.5)];
        let (side, padding) = (side as f64, f64::from(padding));
        let place = |(x, y): (f64, f64)| {
            let q = |p: f64| side * (p + padding) / (1.0 + 2.0 * padding);
            (q(x), q(y))
        };
        // The centres back in the unit square of the corners.
        let in_square = |(x, y): (f64, f64)| (x / 224.0 * 1.5 - 0.25, y / 224.0 * 1.5 - 0.25);
        match self {
            Landmarks::Corners { .. } => CORNERS.map(place),
            Landmarks::Centres { .. } => CENTRES.map(|point| place(in_square(point))),
        }
    }
}

impl Face {
    /// A face of which somebody else says where five of its points are. Its box is what a detector would put around it.
    ///
    /// # Errors
    /// Points that are not finite, or all in one place.
    pub fn from_landmarks(landmarks: Landmarks) -> Result<Self> {
        let upright = landmarks.chip_to_photo();
        let usable = upright.scale().is_finite() && upright.scale() > 0.0;
        if !usable {
            return Err(Error::BadLandmarks { found: format!("{:?}", landmarks.points()) });
        }
        // YuNet's boxes in FairFace's crops, on average: centre (111, 103), 176 x 225 pixels of 224.
        let center = upright.apply(Point::new(111.0, 103.0));
        let (width, height) = (176.0 * upright.scale(), 225.0 * upright.scale());
        let bounds = Rect { x: center.x - width / 2.0, y: center.y - height / 2.0, width, height };
        Ok(Self::new(bounds, None, landmarks))
    }

    /// How far a picture of this size is from being this face's FairFace crop: root mean square distance, in pixels of
    /// a 224-pixel crop, between where places of an 8x8 grid are and where they ought to be. dlib's own second try is 3
    /// (median) to 14 (nine of ten) away from the crops that FairFace released.
    pub fn crop_error(&self, width: usize, height: usize) -> f32 {
        let to_photo = self.landmarks.chip_to_photo();
        let side = FAIRFACE_SIDE as f32;
        let in_crop = |i: usize| (i as f32 + 0.5) / 8.0 * side;
        let squares = (0..64).map(|i| {
            let (x, y) = (in_crop(i % 8), in_crop(i / 8));
            let at = to_photo.apply(Point::new(x, y));
            let (dx, dy) = (at.x / width as f32 * side - x, at.y / height as f32 * side - y);
            dx * dx + dy * dy
        });
        (squares.sum::<f32>() / 64.0).sqrt()
    }

    pub(crate) fn new(bounds: Rect, score: Option<f32>, landmarks: Landmarks) -> Self {
        let upright = landmarks.chip_to_photo();
        Face { bounds, score, landmarks, roll: upright.roll(), scale: upright.scale() }
    }
}
