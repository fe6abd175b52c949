//! Whether images look like the face crops that models learn from.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::photos::{CROP_ERROR, Photos};
use crate::Result;

/// A second face is one of several where it is so wide, in widths of the largest: smaller ones stand behind somebody.
const SEVERAL: f32 = 0.5;

/// What a detector finds in images that should be crops of one face.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FaceCheck {
    /// Images that were looked at.
    pub images: usize,
    /// Files in which no face was found.
    pub no_face: Vec<String>,
    /// Files with several faces, a second at least half as wide as the first.
    pub several_faces: Vec<String>,
    /// Files whose face is far from where FairFace's crops have it.
    pub badly_placed: Vec<BadlyPlaced>,
}

/// An image whose face is not where it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BadlyPlaced {
    /// The image.
    pub file: String,
    /// [`Face::crop_error`](ff_faces::Face::crop_error), above [`CROP_ERROR`].
    pub crop_error: f32,
}

impl FaceCheck {
    /// Looks at images, for which all faces are to be searched; `progress` hears how many are done. Images that cannot
    /// be read are left out: they are found elsewhere.
    ///
    /// # Errors
    /// As [`Photos::search`].
    pub fn new(images: &Photos, mut progress: impl FnMut(usize)) -> Result<Self> {
        let mut check = Self::default();
        images.search(|i, searched| {
            if let Ok(searched) = searched {
                let file = || images.inputs[i].name.clone();
                check.images += 1;
                let width = |i: &usize| searched.faces[*i].0.face.bounds.width;
                let places = 0..searched.faces.len();
                match places.clone().max_by(|a, b| width(a).total_cmp(&width(b))) {
                    None => check.no_face.push(file()),
                    Some(largest) => {
                        let as_wide = |i: &usize| *i != largest && width(i) >= SEVERAL * width(&largest);
                        if places.clone().any(|i| as_wide(&i)) {
                            check.several_faces.push(file());
                        }
                        let size = searched.size;
                        let face = &searched.faces[largest].0.face;
                        let crop_error = face.crop_error(size.width, size.height);
                        if crop_error > CROP_ERROR {
                            check.badly_placed.push(BadlyPlaced { file: file(), crop_error });
                        }
                    }
                }
            }
            progress(i + 1);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(check)
    }

    /// A number of images as a share of all.
    pub fn share(&self, images: usize) -> f64 {
        images as f64 / self.images.max(1) as f64
    }
}
