//! From a photo to a crop: a face's box, padded as FairFace pads, cut out of the image.
//!
//! FairFace's crops are dlib's face chips with padding 0.25: the box widened by a quarter of its size on every side.
//! Chips are square, so a box that is not takes its longer side. Whatever of the square lies outside the image is
//! black, as in dlib. Faces are not rotated upright: that needs landmarks, which a box has not.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    decode::ImageRules,
    error::{Error, Result},
    manifest::{Manifest, Row},
    rgb_image::{ImageSize, RgbImage},
};

/// A face's box in pixels of the upright image, (0, 0) at the top left. Written `x,y,w,h`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FaceBox {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    #[serde(rename = "w")]
    pub width: f64,
    /// Height.
    #[serde(rename = "h")]
    pub height: f64,
}

impl FaceBox {
    /// The padding that FairFace's crops were made with.
    pub const FAIRFACE_PADDING: f64 = 0.25;

    /// A box whose numbers are finite and whose sides are positive.
    ///
    /// # Errors
    /// They are not.
    pub fn new(x: f64, y: f64, width: f64, height: f64) -> Result<Self> {
        let face = FaceBox { x, y, width, height };
        let usable = [x, y, width, height].iter().all(|v| v.is_finite()) && width > 0.0 && height > 0.0;
        if usable {
            Ok(face)
        } else {
            Err(Error::BadBox(format!("expected a width and height above 0, found {face}")))
        }
    }

    /// The columns of a box in a CSV, all of them or none.
    pub const COLUMNS: [&str; 4] = ["x", "y", "w", "h"];

    /// The box in a row's [`FaceBox::COLUMNS`]; `None` where all four are empty.
    ///
    /// # Errors
    /// They are no box.
    pub fn from_fields(fields: [&str; 4]) -> Result<Option<Self>> {
        let fields = fields.map(str::trim);
        if fields.iter().all(|field| field.is_empty()) {
            Ok(None)
        } else {
            fields.join(",").parse().map(Some)
        }
    }

    /// Checks that the box can be a face's in an image of this size.
    ///
    /// # Errors
    /// The box does not meet the image, or is far larger.
    pub fn check_inside(&self, size: ImageSize) -> Result<()> {
        let (w, h) = (size.width as f64, size.height as f64);
        let longer = self.width.max(self.height);
        let meets = self.x < w && self.y < h && self.x + self.width > 0.0 && self.y + self.height > 0.0;
        if !meets || longer > 2.0 * w.max(h) {
            let reason = format!("expected a face inside the image of {w}x{h}, found the box {self}");
            return Err(Error::BadBox(reason));
        }
        Ok(())
    }

    /// Cuts the padded square around the box out of `image` into `crop`.
    ///
    /// # Errors
    /// The box does not meet the image, or is far larger; the square has more pixels than an image may have.
    pub(crate) fn cut(
        self,
        padding: f64,
        rules: &ImageRules,
        image: &RgbImage,
        crop: &mut RgbImage,
    ) -> Result<()> {
        self.check_inside(ImageSize { width: image.width, height: image.height })?;
        let longer = self.width.max(self.height);
        let side = (longer * (1.0 + 2.0 * padding)).round().max(1.0);
        rules.check_size(ImageSize { width: side as usize, height: side as usize })?;
        let first = |start: f64, len: f64| (start + (len - side) / 2.0).round() as i64;
        cut_square(image, first(self.x, self.width), first(self.y, self.height), side as usize, crop);
        Ok(())
    }
}

/// The faces of a manifest's rows; nothing where it has no columns for boxes.
///
/// # Errors
/// A row whose box is none. `x` and `y` without `w` or `h`: whoever wrote those meant a box.
pub(crate) fn faces(manifest: &Manifest) -> Result<Vec<Option<FaceBox>>> {
    let place = |column: &&str| manifest.extra_columns().iter().position(|name| name == column);
    let places: Vec<usize> = FaceBox::COLUMNS.iter().filter_map(place).collect();
    let &[x, y, w, h] = places.as_slice() else {
        let means_a_box = FaceBox::COLUMNS[..2].iter().all(|column| place(column).is_some());
        if means_a_box {
            let (path, found) = (manifest.path().display(), manifest.extra_columns().join(", "));
            return Err(Error::BadBox(format!("{path}: expected the columns x, y, w, h, found {found}")));
        }
        return Ok(Vec::new());
    };
    let face = |row: &Row| {
        FaceBox::from_fields([x, y, w, h].map(|i| row.extra[i].as_str()))
            .map_err(|error| Error::bad_row(manifest.path(), row.line, error.to_string()))
    };
    manifest.rows().iter().map(face).collect()
}

/// Copies a square of `side` pixels whose corner is at (x, y), black where the image has no pixels.
fn cut_square(image: &RgbImage, x: i64, y: i64, side: usize, crop: &mut RgbImage) {
    crop.reshape(side, side);
    crop.pixels.fill(0);
    let inside = |first: i64, len: usize| {
        let end = (first + side as i64).clamp(0, len as i64);
        first.clamp(0, len as i64) as usize..end as usize
    };
    let columns = inside(x, image.width);
    if columns.is_empty() {
        return;
    }
    for row in inside(y, image.height) {
        let from = (row * image.width + columns.start) * 3;
        let to = ((row as i64 - y) as usize * side + (columns.start as i64 - x) as usize) * 3;
        let n = columns.len() * 3;
        crop.pixels[to..to + n].copy_from_slice(&image.pixels[from..from + n]);
    }
}

impl std::fmt::Display for FaceBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

impl FromStr for FaceBox {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[x, y, width, height]) => FaceBox::new(x, y, width, height),
            _ => Err(Error::BadBox(format!("expected x,y,w,h in pixels, found {text:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Decoding;

    const RULES: ImageRules =
        ImageRules { max_file: 0, max_pixels: ImageRules::MAX_PIXELS, decoding: Decoding::Strict };

    /// 4 columns, 3 rows; red is the column + 1, green the row + 1.
    fn image() -> RgbImage {
        let mut image = RgbImage { width: 4, height: 3, pixels: Vec::new() };
        for i in 0..12u8 {
            image.pixels.extend([i % 4 + 1, i / 4 + 1, 9]);
        }
        image
    }

    fn reds(crop: &RgbImage) -> Vec<u8> {
        crop.pixels.iter().copied().step_by(3).collect()
    }

    #[test]
    fn a_box_grows_by_its_padding_on_every_side() {
        let mut crop = RgbImage::default();
        let face = FaceBox::new(1.0, 1.0, 2.0, 2.0).unwrap();
        face.cut(0.0, &RULES, &image(), &mut crop).unwrap();
        assert_eq!((crop.width, reds(&crop)), (2, vec![2, 3, 2, 3]));
        // 2 (1 + 2 * 0.5) = 4 pixels from (0, 0) on: the last row lies below the image.
        face.cut(0.5, &RULES, &image(), &mut crop).unwrap();
        assert_eq!(crop.width, 4);
        assert_eq!(reds(&crop), [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0]);
    }

    #[test]
    fn an_oblong_box_becomes_the_square_around_its_centre() {
        let mut crop = RgbImage::default();
        "2,0,1,3".parse::<FaceBox>().unwrap().cut(0.0, &RULES, &image(), &mut crop).unwrap();
        assert_eq!((crop.width, crop.height), (3, 3));
        assert_eq!(reds(&crop), [2, 3, 4, 2, 3, 4, 2, 3, 4]);
        "-1,-1,2,2".parse::<FaceBox>().unwrap().cut(0.0, &RULES, &image(), &mut crop).unwrap();
        assert_eq!(reds(&crop), [0, 0, 0, 1], "black outside");
    }

    proptest::proptest! {
        #[test]
        fn any_box_is_refused_or_gives_a_square(
            [x, y, w, h] in proptest::array::uniform4(-20.0..20.0f64),
            padding in 0.0..4.0f64,
        ) {
            let mut crop = RgbImage::default();
            if let Ok(face) = FaceBox::new(x, y, w, h) && face.cut(padding, &RULES, &image(), &mut crop).is_ok() {
                assert_eq!(crop.width, crop.height);
                assert_eq!(crop.pixels.len(), crop.width * crop.height * 3);
            }
        }
    }

    #[test]
    fn a_crop_has_no_more_pixels_than_an_image_may_have() {
        let face = FaceBox::new(0.0, 0.0, 3.0, 3.0).unwrap();
        let rules = ImageRules { max_pixels: 80, ..RULES };
        let mut crop = RgbImage::default();
        assert!(face.cut(0.5, &rules, &image(), &mut crop).is_ok());
        let message = face.cut(1.0, &rules, &image(), &mut crop).unwrap_err().to_string();
        assert_eq!(message, "expected 1 to 80 pixels (max_pixels), found 9x9");
    }

    #[test]
    fn boxes_that_cannot_be_are_refused() {
        for bad in ["1,2,3", "1,2,3,x", "1,2,0,3", "1,2,3,-3", "nan,0,1,1", "0,0,inf,1"] {
            assert!(bad.parse::<FaceBox>().is_err(), "{bad}");
        }
        for outside in ["4,0,1,1", "0,-2,1,1", "0,0,9,9"] {
            let cut =
                outside.parse::<FaceBox>().unwrap().cut(0.25, &RULES, &image(), &mut RgbImage::default());
            let message = cut.unwrap_err().to_string();
            assert!(message.contains("image of 4x3") && message.contains(outside), "{message}");
        }
    }
}
