//! FairFace's own crops, pasted into larger pictures: found again, and cut where FairFace cut them.

use crate::support::{bordered, crop_error, crops, photo, quantile};
use ff_faces::{Detector, Options};

#[test]
fn fairfaces_crops_are_found_and_cut_where_fairface_cut_them() {
    let mut detector = Detector::new(Options::default());
    let (mut errors, mut whole) = (Vec::new(), 0);
    let crops = crops(1);
    for crop in &crops {
        let canvas = bordered(crop, 64);
        let faces = detector.detect(&photo(&canvas));
        // The face of the crop: the one that is nearest to it.
        let errors_here = faces.iter().map(|face| crop_error(face, 64.0, 64.0, 224.0));
        if let Some(error) = errors_here.min_by(f32::total_cmp) {
            errors.push(error);
        }
        whole += usize::from(!detector.detect(&photo(crop)).is_empty());
    }
    let found = errors.len() as f32 / crops.len() as f32;
    let mean = errors.iter().sum::<f32>() / errors.len() as f32;
    let (median, p90) = (quantile(&mut errors, 0.5), quantile(&mut errors, 0.9));
    let figures =
        format!("found {found:.4}, as crops {whole}; rms median {median:.2} mean {mean:.2} p90 {p90:.2}");
    assert!(found >= 0.985 && whole as f32 >= 0.985 * crops.len() as f32, "{figures}");
    assert!(median <= 3.0, "{figures}");
}
