//! Models cross to Python and back. Needs Python with torch, torchvision, safetensors, Pillow, onnx and onnxruntime as
//! `python3`, or as `FAIRFACE_PYTHON` says; without them these tests say what they skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use serde_json::Value;

use crate::find_python::python;
use crate::support::{Workplace, assert_exit, labels, largest_difference, probabilities, text};

pub const FACES: [&str; 3] = ["faces/0.png", "faces/1.png", "faces/2.png"];

/// Runs one of the scripts beside this file in `place`.
#[track_caller]
pub fn run_script(python: &str, place: &Workplace, script: &str, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/interop").join(script);
    let output = Command::new(python).arg(script).args(args).current_dir(place.path("")).output().unwrap();
    assert_exit(&output, 0);
    eprintln!("{}", text(&output.stderr));
}

/// Faces as PNG: decoders of JPEG differ by a grey level here and there, which is not what is tested.
pub fn with_png_faces(place: Workplace) -> Workplace {
    let place = place.with_faces(FACES.len());
    for face in FACES {
        let jpeg = PathBuf::from(face).with_extension("jpg");
        let image = ff_data::decode(&fs::read(place.path(&jpeg.to_string_lossy())).unwrap()).unwrap();
        let (w, h) = (image.width as u32, image.height as u32);
        image::RgbImage::from_raw(w, h, image.pixels).unwrap().save(place.path(face)).unwrap();
        fs::remove_file(place.path(&jpeg.to_string_lossy())).unwrap();
    }
    place
}

pub fn read_json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// `{image: {task: {label: f(value)}}}`, where `f` is given all values of the task.
fn map_tasks(object: &Value, f: &impl Fn(f64, &[f64]) -> f64) -> Value {
    let Value::Object(entries) = object else { panic!("expected an object, found {object}") };
    let values: Option<Vec<f64>> = entries.values().map(Value::as_f64).collect();
    let map = |v: &Value| match &values {
        Some(values) => Value::from(f(v.as_f64().unwrap(), values)),
        None => map_tasks(v, f),
    };
    Value::Object(entries.iter().map(|(key, v)| (key.clone(), map(v))).collect())
}

/// Logits, less the constant that a softmax does not see.
fn log_softmax(logits: &Value) -> Value {
    map_tasks(logits, &|v, all| v - all.iter().map(|x| x.exp()).sum::<f64>().ln())
}

fn ln(probabilities: &Value) -> Value {
    map_tasks(probabilities, &|p, _| p.ln())
}

/// Of the faces, as `predict` says.
#[track_caller]
fn predicted(place: &Workplace, weights: &str) -> Value {
    probabilities(&place.json(&["predict", "faces", "--weights", weights, "--json"]))
}

#[test]
fn fairfaces_own_checkpoints_predict_as_its_predict_py_does() {
    let modules = "torch, torchvision, PIL";
    let Some(python) = python("fairfaces_own_checkpoints_predict_as_its_predict_py_does", modules) else {
        return;
    };
    let place = with_png_faces(Workplace::new());
    run_script(&python, &place, "fairface_release.py", &[&["."], &FACES[..]].concat());
    let expected = read_json(place.path("expected.json"));
    let converted = place.json(&["weights", "--file", "legacy.pt", "--json"]);
    assert_eq!((&converted["path"], &converted["kind"]), (&"legacy.safetensors".into(), &"fairface".into()));
    // Converted from the old format, and as it is in the new one.
    for weights in ["legacy.safetensors", "zip.pt"] {
        let difference = largest_difference(&expected, &predicted(&place, weights));
        println!("{weights}: probabilities differ by at most {difference:.1e}");
        assert!(difference < 1e-4, "{weights}: {difference}");
    }
}

#[test]
fn checkpoints_open_in_pytorch_by_the_guides_snippet_and_come_back() {
    let modules = "torch, torchvision, safetensors, PIL";
    let test = "checkpoints_open_in_pytorch_by_the_guides_snippet_and_come_back";
    let Some(python) = python(test, modules) else { return };
    let place = with_png_faces(Workplace::new().with_model());
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide.md");
    let args = [&[guide.to_str().unwrap(), "model.safetensors", "."], &FACES[..]].concat();
    run_script(&python, &place, "load_in_pytorch.py", &args);

    let mut logits = read_json(place.path("expected.json"));
    assert_logits(&logits, &place, "model.safetensors");
    // PyTorch doubled the gender head.
    for image in logits.as_object_mut().unwrap().values_mut() {
        image["gender"] = map_tasks(&image["gender"], &|logit, _| 2.0 * logit);
    }
    assert_logits(&logits, &place, "back.safetensors");
    // A state dict has no labels, so that it serves as a backbone.
    let backbone = place.json(&["weights", "--file", "back.pth", "--json"]);
    assert_eq!(backbone["kind"], "backbone");
}

#[track_caller]
fn assert_logits(expected: &Value, place: &Workplace, weights: &str) {
    let difference = largest_difference(&log_softmax(expected), &ln(&predicted(place, weights)));
    println!("{weights}: logits differ by at most {difference:.1e}");
    assert!(difference < 1e-3, "{weights}: {difference}");
}

#[test]
fn onnx_runtime_agrees() {
    let Some(python) = python("onnx_runtime_agrees", "numpy, onnx, onnxruntime, PIL") else { return };
    let place = with_png_faces(Workplace::new().with_model());
    let variants: [(&str, &[&str]); 3] = [
        ("logits.onnx", &[]),
        ("softmax.onnx", &["--output", "softmax"]),
        ("folded.onnx", &["--output", "softmax", "--input", "bytes", "--fold-bn"]),
    ];
    for (name, flags) in variants {
        let export =
            ["export", "--weights", "model.safetensors", "--format", "onnx", "--out", name, "--json"];
        assert_eq!(place.json(&[&export[..], flags].concat())["opset"], 17);
    }
    let models = variants.map(|(name, _)| name);
    run_script(&python, &place, "run_onnx.py", &[&["out.json"], &models[..], &["--"], &FACES].concat());
    let results = read_json(place.path("out.json"));
    let ours = predicted(&place, "model.safetensors");
    assert_eq!(ours[FACES[0]]["age"].as_object().unwrap().len(), labels()[0].labels.len());
    for (name, theirs) in results.as_object().unwrap() {
        let difference = match name.as_str() {
            "logits.onnx" => largest_difference(&ln(&ours), &log_softmax(theirs)),
            _ => largest_difference(&ours, theirs),
        };
        println!("{name}: values differ by at most {difference:.1e}");
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}
