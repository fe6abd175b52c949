//! Photos -> faces, found, turned upright and cut as FairFace cut its crops.
//!
//! [`Detector::detect`] finds faces with YuNet and their landmarks with dlib's trees; [`chip`] cuts one out as dlib's
//! `get_face_chip` does, which is what FairFace's models were trained on. Weights are part of the crate
//! (`data/NOTICE.md` says whose they are); nothing here touches a file, a thread or a global.
//!
//! ```
//! use ff_faces::{Detector, FAIRFACE_PADDING, Options, Photo, chip};
//!
//! let pixels = vec![127; 640 * 480 * 3]; // rows of (red, green, blue)
//! let photo = Photo::new(640, 480, &pixels)?;
//! let mut detector = Detector::new(Options::default());
//! for face in detector.detect(&photo) {
//!     let crop = chip(&photo, &face, 224, FAIRFACE_PADDING); // (224,224,3)
//!     println!("{:?}, turned by {} degrees: {} bytes", face.bounds, face.roll, crop.len());
//! }
//! # Ok::<(), ff_faces::Error>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | `photo`, `face`, `error` | what goes in and out |
//! | `yunet` | the detector's network and what its maps mean |
//! | `detector` | which looks at a photo find what |
//! | `trees` | dlib's landmarks |
//! | `chip`, `similarity`, `shrink` | geometry and sampling |
//! | `quality` | whether a face can be judged at all |

mod chip;
mod detector;
mod error;
mod face;
#[cfg(test)]
mod golden;
mod photo;
mod quality;
mod shrink;
mod similarity;
mod tensors;
mod trees;
mod yunet;

/// Single networks, for those who measure them.
#[doc(hidden)]
pub mod bench {
    use crate::{Photo, yunet};

    /// The network `n` or `s`: how many faces it finds in one look at a photo.
    pub fn network(name: &str) -> impl FnMut(&Photo<'_>) -> usize {
        let net = if name == "n" { yunet::YuNet::n() } else { yunet::YuNet::s() };
        let mut maps = yunet::Maps::default();
        move |photo| net.detect(photo, 0.6, &mut maps).len()
    }
}

pub use chip::chip;
pub use detector::{Detector, Options};
pub use error::{Error, Result};
pub use face::{FAIRFACE_PADDING, Face, Landmarks};
pub use photo::{Photo, Point, Rect};
pub use quality::Quality;
