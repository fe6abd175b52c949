//! The examples do what they say, with a model of random weights.

use std::path::Path;

use candle_core::Device;
use ff_model::weights::{labels_metadata, serialise};
use ff_model::{Architecture, Parameters, TaskLabels};

#[expect(dead_code, reason = "its main is for people")]
#[path = "../examples/compare_faces.rs"]
mod compare_faces;
#[expect(dead_code, reason = "its main is for people")]
#[path = "../examples/predict_image.rs"]
mod predict_image;

#[test]
fn both_run_on_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let task =
        TaskLabels { task: ff_core::Task::new("gender"), labels: vec!["Female".into(), "Male".into()] };
    let parameters = Parameters::initialise(Architecture::Resnet34, &[task.head()], 3, &Device::Cpu).unwrap();
    let bytes = serialise(&parameters, labels_metadata(std::slice::from_ref(&task))).unwrap();
    fs_err::write(path("model.safetensors"), bytes).unwrap();
    let picture = |name: &str, turn: u32| {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 2) as u8, (y * 3) as u8, ((x + y) * turn) as u8]);
        image::RgbImage::from_fn(100, 80, pixel).save(path(name)).unwrap();
        path(name)
    };
    let (a, b) = (picture("a.png", 1), picture("b.png", 2));

    let answers = predict_image::predict(&path("model.safetensors"), &a).unwrap();
    assert_eq!(answers.len(), 1);
    assert!(task.labels.contains(&answers[0]), "{answers:?}");

    let model = path("model.safetensors");
    let similarity = |a: &Path, b: &Path| compare_faces::similarity(&model, [a, b]).unwrap();
    assert!((similarity(&a, &a) - 1.0).abs() < 1e-5);
    assert!(similarity(&a, &b) < 0.99999);
}
