//! Five points of a face, as somebody else's detector wrote them into a CSV.

use serde::{Deserialize, Serialize};

/// Five points of a face, in pixels of the upright image; the middle of the first pixel is (0, 0).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FacePoints {
    /// Which points.
    pub kind: FacePointsKind,
    /// (x, y) each, in the order of [`FacePointsKind::columns`].
    pub points: [(f64, f64); 5],
}

/// Which five points of a face. Left and right are the person's: the right eye is at picture left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FacePointsKind {
    /// dlib's: the eyes' corners and the base of the nose.
    Corners,
    /// RetinaFace's, MTCNN's, YuNet's: eyes, tip of the nose, corners of the mouth.
    Centres,
}

impl FacePointsKind {
    /// All of them; where a CSV has both, the first counts.
    pub const ALL: [Self; 2] = [Self::Corners, Self::Centres];

    /// The columns of the points in a CSV, all of them or none: x and y of each in turn.
    pub const fn columns(self) -> [&'static str; 10] {
        match self {
            Self::Corners => [
                "left_eye_outer_x",
                "left_eye_outer_y",
                "left_eye_inner_x",
                "left_eye_inner_y",
                "right_eye_outer_x",
                "right_eye_outer_y",
                "right_eye_inner_x",
                "right_eye_inner_y",
                "nose_base_x",
                "nose_base_y",
            ],
            Self::Centres => [
                "right_eye_x",
                "right_eye_y",
                "left_eye_x",
                "left_eye_y",
                "nose_x",
                "nose_y",
                "mouth_right_x",
                "mouth_right_y",
                "mouth_left_x",
                "mouth_left_y",
            ],
        }
    }
}

impl FacePoints {
    /// The points in a row's [`FacePointsKind::columns`]; `None` where all ten are empty.
    ///
    /// # Errors
    /// A field that is no finite number; the message names its column.
    pub(crate) fn from_fields(kind: FacePointsKind, fields: [&str; 10]) -> Result<Option<Self>, String> {
        if fields.iter().all(|field| field.is_empty()) {
            return Ok(None);
        }
        let mut points = [(0.0, 0.0); 5];
        for (i, (field, column)) in fields.iter().zip(kind.columns()).enumerate() {
            let number = field.parse().ok().filter(|number: &f64| number.is_finite());
            let number = number.ok_or_else(|| format!("{column}: expected a number, found {field:?}"))?;
            let point = &mut points[i / 2];
            if i % 2 == 0 { point.0 = number } else { point.1 = number }
        }
        Ok(Some(FacePoints { kind, points }))
    }
}
