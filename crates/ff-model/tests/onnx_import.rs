//! ONNX files as weights: what PyTorch's two exporters write, folded and not, and this crate's own.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ff_model::onnx::{self, BatchNorm, Input, Options, Output};
use ff_model::weights::{Kind, WeightFile, read_tensors};
use ff_model::{Architecture, Compute, Engine, FaceModel, Parameters, TaskLabels};
use tempfile::TempDir;

/// A file of `onnx_import/`, made by `make.py` there.
fn exported(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/onnx_import/{name}.onnx.gz"));
    let (file, mut bytes) = (fs_err::File::open(path).unwrap(), Vec::new());
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn saved(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("network.onnx");
    fs_err::write(&path, bytes).unwrap();
    (dir, path)
}

/// `value` of `make.py`.
fn value(kind: &str, tensor: usize, index: usize) -> f32 {
    let (tensor, index) = (tensor as i32, index as i32);
    match kind {
        "weight" => ((index + tensor) % 61 - 30) as f32 / 512.0,
        "scale" => 1.0 + (index / 64 % 5) as f32 / 8.0,
        "shift" => ((index + tensor) % 17 - 8) as f32 / 32.0,
        "mean" => ((index + 2 * tensor) % 13 - 6) as f32 / 64.0,
        "var" => 0.5 + (index / 64 % 3) as f32 / 4.0,
        "bias" => index as f32 / 16.0,
        other => panic!("{other}"),
    }
}

/// The tensors of `make.py`'s network, by torchvision's names.
fn expected() -> BTreeMap<String, Vec<f32>> {
    let values = |kind: &str, tensor: usize, len: usize| (0..len).map(|i| value(kind, tensor, i)).collect();
    let mut tensors = BTreeMap::new();
    // torchvision's modules stand in the order of this layout, but the shortcut behind the block's other layers.
    for (i, layer) in Architecture::Resnet18.layout().conv_norms().enumerate() {
        let conv = &layer.conv;
        let len = conv.outputs * conv.inputs * conv.kernel * conv.kernel;
        tensors.insert(format!("{}.weight", conv.name), values("weight", i, len));
        for (part, kind) in
            [("weight", "scale"), ("bias", "shift"), ("running_mean", "mean"), ("running_var", "var")]
        {
            tensors.insert(format!("{}.{part}", layer.norm.name), values(kind, i, conv.outputs));
        }
    }
    tensors.insert("fc.weight".into(), values("weight", 20, 18 * 512));
    tensors.insert("fc.bias".into(), values("bias", 0, 18));
    tensors
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn what_pytorchs_exporters_wrote_with_its_norms_comes_back_bit_for_bit() {
    let expected = expected();
    for file in ["torchscript_norms", "dynamo_norms"] {
        let (_dir, path) = saved(&exported(file));
        let found = read_tensors(&path).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{file}");
        for (name, values) in &expected {
            assert!(numbers(&found[name]) == *values, "{file}: {name}");
        }
        let file = WeightFile::read(&path).unwrap();
        assert_eq!((file.kind(), file.architecture()), (Kind::Fairface, Architecture::Resnet18));
        let (parameters, _) = file.parameters().unwrap();
        let last = numbers(&parameters.get("backbone.layer4.1.conv2.weight").unwrap());
        assert!(last == expected["layer4.1.conv2.weight"]);
    }
}

/// A convolution w and its norm become w s and a bias b - m s, where s = scale / sqrt(var + eps).
#[test]
fn what_was_folded_comes_back_as_convolutions_and_norms_that_only_add() {
    let expected = expected();
    for name in ["torchscript_folded", "dynamo"] {
        let (_dir, path) = saved(&exported(name));
        let found = read_tensors(&path).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for layer in Architecture::Resnet18.layout().conv_norms() {
            let norm = |part: &str| &expected[&format!("{}.{part}", layer.norm.name)];
            let factor: Vec<f64> = norm("weight")
                .iter()
                .zip(norm("running_var"))
                .map(|(scale, var)| f64::from(*scale) / (f64::from(*var) + 1e-5).sqrt())
                .collect();
            let key = format!("{}.weight", layer.conv.name);
            let (weights, whole) = (numbers(&found[&key]), &expected[&key]);
            let len = whole.len() / factor.len();
            for (i, (folded, weight)) in weights.iter().zip(whole).enumerate() {
                let exact = f64::from(*weight) * factor[i / len];
                assert!((f64::from(*folded) - exact).abs() <= 1e-6 * exact.abs(), "{name}: {key} {i}");
            }
            let part = |part: &str| numbers(&found[&format!("{}.{part}", layer.norm.name)]);
            for (c, bias) in part("bias").iter().enumerate() {
                let exact = f64::from(norm("bias")[c]) - f64::from(norm("running_mean")[c]) * factor[c];
                assert!((f64::from(*bias) - exact).abs() < 1e-6, "{name}: {} {c}", layer.norm.name);
            }
            assert!(part("weight").iter().all(|&scale| scale == 1.0));
            assert!(part("running_mean").iter().all(|&mean| mean == 0.0));
            // What the network divides by is 1 in f32.
            assert!(part("running_var").iter().all(|&var| (var + 1e-5).sqrt() == 1.0));
        }
        for name in ["fc.weight", "fc.bias"] {
            assert!(numbers(&found[name]) == expected[name], "{name}");
        }
    }
}

#[test]
fn what_is_no_network_of_ours_is_refused_by_its_node() {
    let message = |bytes: Vec<u8>| WeightFile::parse(Path::new("x.onnx"), bytes).unwrap_err().to_string();
    let whole = exported("torchscript_folded");
    for n in (0..40).map(|i| 2 + i * whole.len() / 41) {
        let said = message(whole[..n].to_vec());
        assert!(said.contains("x.onnx"), "{n}: {said}");
    }
    // Another operator or attribute, each at its first place in the file.
    for (from, to, expected) in [
        (&b"\x22\x07MaxPool"[..], &b"\x22\x07AvgPool"[..], "maxpool: expected"),
        (
            b"\x22\x11GlobalAveragePool",
            b"\x22\x11GlobalMaximumPool",
            "avgpool: expected a mean over height and width",
        ),
        (b"\x0a\x07strides", b"\x0a\x07striden", "expected strides [2, 2]"),
    ] {
        let mut other = whole.clone();
        let at = other.windows(from.len()).position(|window| window == from).unwrap();
        other[at..at + to.len()].copy_from_slice(to);
        let said = message(other);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

fn own_model() -> (Parameters, Vec<TaskLabels>) {
    let task = |task: &str, n: usize| TaskLabels {
        task: ff_core::Schema::fairface().task(task).unwrap().clone(),
        labels: (0..n).map(|i| i.to_string()).collect(),
    };
    let tasks = vec![task("age", 9), task("gender", 2), task("race", 7)];
    let heads: Vec<_> = tasks.iter().map(TaskLabels::head).collect();
    let parameters = Parameters::initialise(Architecture::Resnet18, &heads, 5, &Device::Cpu).unwrap();
    // Statistics of their own, so that a norm that is lost or folded wrongly shows.
    parameters_with_statistics(parameters, tasks)
}

fn parameters_with_statistics(
    mut parameters: Parameters,
    tasks: Vec<TaskLabels>,
) -> (Parameters, Vec<TaskLabels>) {
    parameters
        .update(|_, statistics| {
            let n = statistics.elem_count();
            let values: Vec<f32> = (0..n).map(|i| 0.3 + (i * 7 % 31) as f32 / 64.0).collect();
            statistics.slice_set(&Tensor::new(values, &Device::Cpu)?, 0, 0)
        })
        .unwrap();
    (parameters, tasks)
}

#[test]
fn own_exports_come_back() {
    let (parameters, tasks) = own_model();
    let images = Tensor::rand(-1f32, 1f32, (2, 3, 64, 64), &Device::Cpu).unwrap();
    let logits = |path: &Path| {
        let (mut model, labels) = FaceModel::open(path, &Compute::cpu(Engine::Reference)).unwrap();
        assert_eq!(labels, tasks);
        let logits = model.predict(&images).unwrap().logits;
        let values: Vec<f32> = logits.iter().flat_map(numbers).collect();
        (model.parameters().named().unwrap(), values)
    };
    let (_dir, path) = saved(
        &ff_model::weights::serialise(&parameters, ff_model::weights::labels_metadata(&tasks)).unwrap(),
    );
    let (whole, expected) = logits(&path);
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    for (input, output, batch_norm) in [
        (Input::Normalised, Output::Logits, BatchNorm::Kept),
        (Input::Bytes, Output::Probabilities, BatchNorm::Kept),
        (Input::Bytes, Output::Probabilities, BatchNorm::Folded),
    ] {
        let options = Options { input, output, batch_norm, ..Options::default() };
        let (_dir, path) = saved(&onnx::export(&parameters, &tasks, &options).unwrap());
        let (found, values) = logits(&path);
        if batch_norm == BatchNorm::Kept {
            for ((name, a), (_, b)) in whole.iter().zip(&found) {
                assert!(numbers(a) == numbers(b), "{name}");
            }
        }
        let off = values.iter().zip(&expected).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
        assert!(off <= 1e-4 * largest, "{options:?}: off by {off} of {largest}");
    }
}
