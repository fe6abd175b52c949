//! Close-ups, small faces in large photos, and how many of them are wanted.

use ff_faces::{Detector, Options, Quality};
use image::{Rgb, RgbImage, imageops};

use crate::support::{data, open, photo};

#[test]
fn a_close_up_is_found_in_a_smaller_look() {
    let astronaut = open(data("photos/astronaut.png"));
    // Her face is 91 of 512 pixels wide: here 90 % of the picture.
    let face = imageops::crop_imm(&astronaut, 173, 60, 102, 125).to_image();
    let close_up = imageops::resize(&face, 1632, 2000, imageops::FilterType::Triangle);
    let faces = Detector::new(Options::default()).detect(&photo(&close_up));
    assert_eq!(faces.len(), 1, "{faces:?}");
    assert!(faces[0].bounds.width > 1200.0, "{:?}", faces[0].bounds);
}

#[test]
fn small_faces_of_a_large_photo_are_found_where_they_are_wanted() {
    // Faces of 15 to 75 pixels in a photo of 4000 x 3000: 3 to 12 pixels of 640.
    let montage = open(data("photos/fairface_montage.png"));
    let montage = imageops::resize(&montage, 320, 240, imageops::FilterType::Triangle);
    let mut large = RgbImage::from_pixel(4000, 3000, Rgb([96, 112, 104]));
    for (x, y) in [(200, 300), (3600, 200), (1900, 1500), (3500, 2700)] {
        imageops::replace(&mut large, &montage, x, y);
    }
    let find = |min_face| Detector::new(Options { min_face, ..Options::default() }).detect(&photo(&large));
    let without = find(None).len();
    let with = find(Some(25.0));
    assert!(without <= 8, "{without} of faces of 3 to 12 pixels");
    assert!(with.len() >= 24, "{} of 28 faces of 25 pixels and more", with.len());
    assert!(with.iter().all(|face| face.bounds.width >= 25.0));
    // Tiles overlap, and each face is there once.
    for (i, a) in with.iter().enumerate() {
        assert!(with[..i].iter().all(|b| a.bounds.iou(&b.bounds) <= 0.3));
    }
}

#[test]
fn the_largest_faces_are_kept_and_the_least_score_counts() {
    let montage = open(data("photos/fairface_montage.png"));
    let detect = |options| Detector::new(options).detect(&photo(&montage));
    let all = detect(Options::default());
    let mut widths: Vec<f32> = all.iter().map(|face| face.bounds.area()).collect();
    widths.sort_by(|a, b| b.total_cmp(a));
    let three = detect(Options { max_faces: Some(3), ..Options::default() });
    let mut found: Vec<f32> = three.iter().map(|face| face.bounds.area()).collect();
    found.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(found, widths[..3]);
    assert!(three.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let sure = detect(Options { min_score: 0.92, ..Options::default() });
    assert_eq!(sure.len(), all.iter().filter(|face| face.score >= Some(0.92)).count());
}

#[test]
fn quality_falls_as_a_picture_gets_worse() {
    let original = open(data("photos/astronaut.png"));
    let face = Detector::new(Options::default()).detect(&photo(&original))[0];
    let quality = |image: &RgbImage| Quality::of(&photo(image), &face);
    let sharp = quality(&original);
    let mut before = sharp.sharpness;
    for sigma in [0.5, 1.0, 2.0, 4.0] {
        let blurred = quality(&imageops::blur(&original, sigma)).sharpness;
        assert!(blurred < before, "sigma {sigma}: {blurred} after {before}");
        before = blurred;
    }
    let mut dark = original.clone();
    dark.pixels_mut().for_each(|p| p.0 = p.0.map(|v| v / 4));
    let dark = quality(&dark);
    assert!((dark.brightness - sharp.brightness / 4.0).abs() < 0.01);
    assert!((dark.sharpness / sharp.sharpness - 1.0).abs() < 0.2, "light does not count as sharpness");
    let mut light = original.clone();
    light.pixels_mut().for_each(|p| p.0 = p.0.map(|v| v.saturating_mul(4)));
    assert!(quality(&light).clipped > 0.3 && sharp.clipped < 0.05);
    assert!(sharp.yaw.abs() < 0.15, "she looks into the camera: {}", sharp.yaw);
}
