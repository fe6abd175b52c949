//! Photos in: which images are crops already, which faces are found, and that photos share batches.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ff_data::{ImageInput, ImageRules};
use ff_train::infer::{CROP_ERROR, FaceSearch, FacesWanted, PhotoOptions, PhotoPrediction, Photos};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(path)
}

fn photos(inputs: Vec<ImageInput>, wanted: FacesWanted) -> Photos {
    Photos {
        inputs,
        options: PhotoOptions {
            rules: ImageRules::default(),
            wanted,
            search: FaceSearch::default(),
            min_sharpness: None,
            padding: 0.25,
            image_size: 224,
        },
        workers: 2,
    }
}

fn rows(photos: &Photos) -> Vec<PhotoPrediction> {
    let mut rows = Vec::new();
    let failures = photos.rows(|found| {
        rows.extend(found);
        Ok(ControlFlow::Continue(()))
    });
    assert_eq!(failures.expect("no photo ends the search"), []);
    rows
}

/// Where the threshold comes from: 799 crops that FairFace released.
#[test]
fn nearly_all_of_the_samples_crops_go_in_whole_and_no_photo_does() {
    let folder = data("sample/images").to_string_lossy().into_owned();
    let crops = ImageInput::expand(&folder, Path::new(""), &mut std::io::empty()).unwrap();
    let n = crops.len();
    let found = rows(&photos(crops.clone(), FacesWanted::Largest));
    let mut errors: Vec<f32> =
        found.iter().filter_map(|row| row.face.as_ref()).map(|f| f.face.crop_error(224, 224)).collect();
    errors.sort_by(f32::total_cmp);
    let quantile = |q: f64| errors[((errors.len() - 1) as f64 * q) as usize];
    println!(
        "{} of {n} with a face; crop error: median {:.1}, 90 % {:.1}, 95 % {:.1}, 97 % {:.1}, 99 % {:.1}",
        errors.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.95),
        quantile(0.97),
        quantile(0.99)
    );
    let whole = errors.iter().filter(|&&error| error <= CROP_ERROR).count();
    println!("{whole} whole");
    assert!(whole as f64 >= 0.95 * n as f64, "{whole} of {n}");
}
