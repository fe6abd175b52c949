//! How many faces are found, and how well they are cut, as pictures get worse: `rates FOLDER_OF_FAIRFACE_CROPS [STEP]`.
//!
//! Every crop gets a grey border of 64 pixels and one fault. Misplacement is the root mean square distance to
//! FairFace's own crop, in pixels of 224.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, path::PathBuf};

use ff_faces::{Detector, Face, Landmarks, Options, Photo, Point};
use image::{Rgb, RgbImage, imageops};

const BORDER: u32 = 64;

/// A fault, and where a point of the faulty picture was in the bordered crop.
struct Fault {
    name: String,
    spoil: Box<dyn Fn(&RgbImage) -> RgbImage>,
    back: Box<dyn Fn(Point) -> Point>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("expected a folder of crops")?;
    let step: usize = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let mut files: Vec<PathBuf> =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    let crops: Vec<RgbImage> = files
        .iter()
        .step_by(step)
        .map(|f| Ok(image::open(f)?.to_rgb8()))
        .collect::<Result<_, image::ImageError>>()?;
    println!("| {} crops | found | misplaced, median | mean | p90 |\n|---|---|---|---|---|", crops.len());
    let mut detector = Detector::new(Options::default());
    for fault in faults() {
        let mut errors: Vec<f32> = Vec::new();
        for crop in &crops {
            let picture = (fault.spoil)(&bordered(crop));
            let photo = Photo::new(picture.width() as usize, picture.height() as usize, picture.as_raw())?;
            let error = |face: &Face| {
                let points = face.landmarks.points().map(|p| {
                    let p = (fault.back)(p);
                    Point::new(p.x - BORDER as f32, p.y - BORDER as f32)
                });
                Face::from_landmarks(Landmarks::corners(points)).map_or(f32::MAX, |f| f.crop_error(224, 224))
            };
            errors.extend(detector.detect(&photo).iter().map(error).min_by(f32::total_cmp));
        }
        errors.sort_by(f32::total_cmp);
        let (n, found) = (errors.len(), errors.len() as f32 / crops.len() as f32);
        let quantile =
            |share: f32| errors.get(((n.max(1) - 1) as f32 * share) as usize).copied().unwrap_or(f32::NAN);
        let mean = errors.iter().sum::<f32>() / n as f32;
        println!(
            "| {} | {:.1} % | {:.1} | {mean:.1} | {:.1} |",
            fault.name,
            100.0 * found,
            quantile(0.5),
            quantile(0.9)
        );
    }
    Ok(())
}

fn bordered(crop: &RgbImage) -> RgbImage {
    let mut canvas = RgbImage::from_pixel(224 + 2 * BORDER, 224 + 2 * BORDER, Rgb([127; 3]));
    imageops::replace(&mut canvas, crop, BORDER.into(), BORDER.into());
    canvas
}

fn faults() -> Vec<Fault> {
    let mut faults = vec![in_place("as it is", |image| image.clone())];
    for width in [176, 88, 50, 35, 25, 19] {
        // A face is 176 of a crop's 224 pixels wide.
        let ratio = width as f32 / 176.0;
        let side = (352.0 * ratio).round();
        faults.push(Fault {
            name: format!("{width} pixels wide"),
            spoil: Box::new(move |image| imageops::thumbnail(image, side as u32, side as u32)),
            back: Box::new(move |p| {
                let back = |v: f32| (v + 0.5) * 352.0 / side - 0.5;
                Point::new(back(p.x), back(p.y))
            }),
        });
    }
    for sigma in [2.0, 4.0, 6.0] {
        faults.push(in_place(format!("blurred, sigma {sigma} of 224"), move |image| {
            imageops::blur(image, sigma)
        }));
    }
    faults.push(in_place("masked from the nose down", |image| {
        let mut image = image.clone();
        let mask = RgbImage::from_pixel(140, 96, Rgb([90, 140, 190]));
        imageops::replace(&mut image, &mask, i64::from(BORDER) + 42, i64::from(BORDER) + 118);
        image
    }));
    faults.push(in_place("dark, a tenth of the light", |image| {
        let mut image = image.clone();
        image.pixels_mut().for_each(|p| p.0 = p.0.map(|v| v / 10));
        image
    }));
    for degrees in [15.0f32, 30.0, 45.0, 60.0, 90.0, 180.0] {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let middle = 175.5;
        let turn = move |p: Point, sin: f32| {
            let (x, y) = (p.x - middle, p.y - middle);
            Point::new(middle + cos * x + sin * y, middle - sin * x + cos * y)
        };
        faults.push(Fault {
            name: format!("turned by {degrees} degrees"),
            spoil: Box::new(move |image| {
                RgbImage::from_fn(352, 352, |x, y| {
                    let p = turn(Point::new(x as f32, y as f32), sin);
                    imageops::interpolate_bilinear(image, p.x, p.y).unwrap_or(Rgb([127; 3]))
                })
            }),
            back: Box::new(move |p| turn(p, sin)),
        });
    }
    faults
}

fn in_place(name: impl Into<String>, spoil: impl Fn(&RgbImage) -> RgbImage + 'static) -> Fault {
    Fault { name: name.into(), spoil: Box::new(spoil), back: Box::new(|p| p) }
}
