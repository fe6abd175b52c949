//! A photo, borrowed from whoever decoded it, and places in it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest side that a photo may have: positions stay exact in f32 and sizes cannot wrap.
const MAX_SIDE: usize = 1 << 20;

/// An upright photo `(H,W,3)`: rows of pixels of (red, green, blue).
#[derive(Debug, Clone, Copy)]
pub struct Photo<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: &'a [u8],
}

impl<'a> Photo<'a> {
    /// Looks at `height * width * 3` bytes as a photo.
    ///
    /// # Errors
    /// Another number of bytes, no pixels, or a side longer than 2^20.
    pub fn new(width: usize, height: usize, pixels: &'a [u8]) -> Result<Self> {
        let sides = [width, height].iter().all(|side| (1..=MAX_SIDE).contains(side));
        if !sides || pixels.len() != width * height * 3 {
            return Err(Error::BadPhoto { width, height, bytes: pixels.len() });
        }
        Ok(Photo { width, height, pixels })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The longer side, in pixels.
    pub(crate) fn longer_side(&self) -> usize {
        self.width.max(self.height)
    }

    /// The pixel at (x, y), which must lie inside.
    #[inline]
    pub(crate) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y * self.width + x) * 3;
        [self.pixels[i], self.pixels[i + 1], self.pixels[i + 2]]
    }
}

/// A place in a photo, in pixels; the middle of the first pixel is (0, 0), as in dlib and OpenCV.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

impl Point {
    /// The point (x, y).
    pub const fn new(x: f32, y: f32) -> Self {
        Point { x, y }
    }

    /// The coordinates as f64.
    pub(crate) fn exact(self) -> (f64, f64) {
        (f64::from(self.x), f64::from(self.y))
    }
}

/// An upright rectangle in a photo, in pixels. It may reach beyond the photo.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    #[serde(rename = "w")]
    pub width: f32,
    /// Height.
    #[serde(rename = "h")]
    pub height: f32,
}

impl Rect {
    /// Its middle.
    pub fn center(&self) -> Point {
        Point::new(self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    /// Its area in square pixels; 0 where a side is negative.
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// Intersection over union with another rectangle, 0 to 1.
    pub fn iou(&self, other: &Rect) -> f32 {
        let overlap =
            |a: f32, a_len: f32, b: f32, b_len: f32| ((a + a_len).min(b + b_len) - a.max(b)).max(0.0);
        let shared = overlap(self.x, self.width, other.x, other.width)
            * overlap(self.y, self.height, other.y, other.height);
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }
}
