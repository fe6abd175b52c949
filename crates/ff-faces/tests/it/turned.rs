//! What is done to a photo is done to its faces.

use crate::support::{data, open, photo, quantile};
use ff_faces::{Detector, Face, Landmarks, Options, Photo, Point, Rect, chip};
use image::{RgbImage, imageops};

fn detect(image: &RgbImage) -> Vec<Face> {
    Detector::new(Options::default()).detect(&photo(image))
}

fn distance(a: Point, b: Point) -> f32 {
    (a.x - b.x).hypot(a.y - b.y)
}

/// The face among `faces` whose landmarks are nearest to `points`, and how far they are off on average.
fn nearest(faces: &[Face], points: [Point; 5]) -> (Face, f32) {
    let off = |face: &Face| {
        face.landmarks.points().iter().zip(points).map(|(a, b)| distance(*a, b)).sum::<f32>() / 5.0
    };
    let face = faces.iter().min_by(|a, b| off(a).total_cmp(&off(b))).expect("faces are found");
    (*face, off(face))
}

#[test]
fn the_montage_has_eleven_faces_and_coffee_none() {
    let montage = open(data("photos/fairface_montage.png"));
    let faces = detect(&montage);
    assert_eq!(faces.len(), 11);
    assert!(faces.windows(2).all(|pair| pair[0].score >= pair[1].score), "the surest first");
    // From each crop of the montage to the picture: `montage_truth` of the golden data.
    let truth: [([f32; 3], [f32; 3]); 12] = [
        ([0.7, 0.0, 16.6], [0.0, 0.7, 31.6]),
        ([0.537981, 0.114351, 176.93875], [-0.114351, 0.537981, 47.553467]),
        ([0.427975, -0.139058, 342.6412], [0.139058, 0.427975, 21.492294]),
        ([0.317208, 0.147916, 427.9061], [-0.147916, 0.317208, 56.03937]),
        ([0.233827, -0.135, 558.9314], [0.135, 0.233827, 28.691393]),
        ([0.841728, -0.118297, 8.975759], [0.118297, 0.841728, 222.4772]),
        ([0.562917, 0.325, 190.55334], [-0.325, 0.562917, 273.35336]),
        ([0.4, 0.0, 395.2], [0.0, 0.4, 205.2]),
        ([0.29708, 0.041752, 507.05078], [-0.041752, 0.29708, 211.40321]),
        ([0.18, 0.0, 589.84], [0.0, 0.18, 229.84]),
        ([0.459627, -0.385673, 421.71713], [0.385673, 0.459627, 295.3265]),
        ([0.353553, 0.353553, 490.80405], [-0.353553, 0.353553, 390.0]),
    ];
    let mut errors: Vec<f32> = Vec::new();
    for (row_x, row_y) in truth {
        let (re, im) = (row_x[0], row_y[0]);
        let norm = re * re + im * im;
        // Back into the crop, where the face's own crop should be the whole.
        let into_crop = |p: Point| {
            let (x, y) = (p.x - row_x[2], p.y - row_y[2]);
            Point::new((x * re + y * im) / norm, (y * re - x * im) / norm)
        };
        let error = |face: &Face| {
            let points = face.landmarks.points().map(into_crop);
            Face::from_landmarks(Landmarks::corners(points)).unwrap().crop_error(224, 224)
        };
        let best = faces.iter().map(error).min_by(f32::total_cmp).unwrap();
        if best < 60.0 {
            errors.push(best);
        }
    }
    assert_eq!(errors.len(), 11, "{errors:?}");
    let median = quantile(&mut errors, 0.5);
    assert!(median <= 3.0, "rms median {median}");
    assert_eq!(detect(&open(data("photos/coffee.png"))), []);
}

#[test]
fn a_scaled_photo_has_its_faces_scaled() {
    let original = open(data("photos/astronaut.png"));
    let face = detect(&original)[0];
    for side in [300, 400, 1024, 1600] {
        let scaled = imageops::resize(&original, side, side, imageops::FilterType::Triangle);
        let factor = side as f32 / 512.0;
        let expected = face.landmarks.points().map(|p| Point::new(p.x * factor, p.y * factor));
        let faces = detect(&scaled);
        let (found, off) = nearest(&faces, expected);
        assert!(off < 2.5 * factor.max(0.6), "{side}: points are {off} pixels off");
        assert!((found.scale / (face.scale * factor) - 1.0).abs() < 0.06, "{side}: scale {}", found.scale);
    }
}

#[test]
fn a_turned_photo_has_its_faces_turned() {
    let original = open(data("photos/astronaut.png"));
    let upright = detect(&original)[0];
    // Quarter turns: nothing is found upright, so the photo is turned until something is.
    let side = 511.0;
    type Turn = (fn(&RgbImage) -> RgbImage, fn(Point, f32) -> Point, f32);
    let turns: [Turn; 3] = [
        (imageops::rotate90, |p, side| Point::new(side - p.y, p.x), 90.0),
        (imageops::rotate180, |p, side| Point::new(side - p.x, side - p.y), 180.0),
        (imageops::rotate270, |p, side| Point::new(p.y, side - p.x), -90.0),
    ];
    for (turn, place, degrees) in turns {
        let faces = detect(&turn(&original));
        let (face, off) = nearest(&faces, upright.landmarks.points().map(|p| place(p, side)));
        let roll = (face.roll - upright.roll - degrees + 540.0).rem_euclid(360.0) - 180.0;
        assert!(off < 3.0, "{degrees}: points are {off} pixels off");
        assert!(roll.abs() < 4.0, "{degrees}: roll {}", face.roll);
    }
    // Smaller ones, by the crate's own sampling: a chip of a face that is said to be turned the other way.
    for degrees in [-45.0f32, -30.0, -15.0, 15.0, 30.0, 45.0] {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let middle = 255.5;
        let place = |p: Point| {
            let (x, y) = (p.x - middle, p.y - middle);
            Point::new(middle + cos * x - sin * y, middle + sin * x + cos * y)
        };
        let turned = RgbImage::from_fn(512, 512, |x, y| {
            let (x, y) = (x as f32 - middle, y as f32 - middle);
            let (x, y) = (middle + cos * x + sin * y, middle - sin * x + cos * y);
            imageops::interpolate_bilinear(&original, x, y).unwrap_or(image::Rgb([0; 3]))
        });
        let (face, off) = nearest(&detect(&turned), upright.landmarks.points().map(place));
        assert!(off < 4.0, "{degrees}: points are {off} pixels off");
        assert!((face.roll - upright.roll - degrees).abs() < 4.0, "{degrees}: roll {}", face.roll);
    }
}

#[test]
fn a_mirrored_photo_has_its_faces_mirrored() {
    let original = open(data("photos/fairface_montage.png"));
    let mirrored = detect(&imageops::flip_horizontal(&original));
    let mut offs = Vec::new();
    for face in detect(&original) {
        let [lo, li, ro, ri, nose] = face.landmarks.points().map(|p| Point::new(639.0 - p.x, p.y));
        let (_, off) = nearest(&mirrored, [ro, ri, lo, li, nose]);
        offs.push(off / face.bounds.width);
    }
    assert!(offs.iter().filter(|&&off| off < 0.06).count() >= 10, "shares of the face's width: {offs:?}");
}

#[test]
fn somebody_elses_boxes_and_points_lead_to_the_same_chip() {
    let image = open(data("photos/astronaut.png"));
    let photo = photo(&image);
    let mut detector = Detector::new(Options::default());
    let found = detector.detect(&photo)[0];
    // A box that is shifted and larger, as other detectors draw them.
    let Rect { x, y, width, height } = found.bounds;
    let other = Rect { x: x - 8.0, y: y - 10.0, width: width + 12.0, height: height + 6.0 };
    let of_box = detector.face_in(&photo, other).unwrap();
    assert_eq!(of_box.bounds, other, "the box stays what was given");
    let of_points = Face::from_landmarks(found.landmarks).unwrap();
    let side = |face: &Face| face.landmarks.points();
    let (_, off) = nearest(&[of_box], side(&found));
    assert!(off < 2.0, "{off} pixels off");
    assert_eq!(chip(&photo, &of_points, 224, 0.25), chip(&photo, &found, 224, 0.25));
}

#[test]
fn what_is_no_face_is_refused() {
    let same = Landmarks::corners([Point::new(5.0, 5.0); 5]);
    let nan = Landmarks::centres([Point::new(f32::NAN, 0.0); 5]);
    for landmarks in [same, nan] {
        let error = Face::from_landmarks(landmarks).unwrap_err().to_string();
        assert!(error.starts_with("landmarks: expected five finite points"), "{error}");
    }
    let pixels = [0; 3 * 4 * 3];
    assert!(Photo::new(4, 4, &pixels).unwrap_err().to_string().contains("found 4 x 4 and 36 bytes"));
    assert!(Photo::new(0, 4, &[]).is_err());
    let photo = Photo::new(4, 3, &pixels).unwrap();
    let mut detector = Detector::new(Options::default());
    let nothing = Rect { x: 0.0, y: 0.0, width: -1.0, height: f32::INFINITY };
    let error = detector.face_in(&photo, nothing).unwrap_err().to_string();
    assert_eq!(error, "face box: expected finite numbers, and a width and height above 0, found 0,0,-1,inf");
    assert_eq!(detector.detect(&photo), [], "a photo of 4 x 3 pixels is one");
}
