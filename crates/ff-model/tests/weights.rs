//! Weights in and out of files: what fits is taken exactly, what does not is named and changes nothing.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ff_model::weights::{self, Scope, WeightFile};
use ff_model::{Architecture, Compute, Engine, Error, FaceModel, HeadSpec, Parameters, TaskLabels};
use safetensors::Dtype;
use tempfile::TempDir;

fn parameters(seed: u64) -> Parameters {
    let heads = [HeadSpec::new("age", 9), HeadSpec::new("gender", 2), HeadSpec::new("race", 5)];
    Parameters::initialise(Architecture::Resnet34, &heads, seed, &Device::Cpu).unwrap()
}

fn values(parameters: &Parameters) -> Vec<f32> {
    parameters.values().to_vec1().unwrap()
}

/// torchvision's file: the backbone without its prefix, a classifier, and batch counters.
fn torchvision_tensors(seed: u64) -> HashMap<String, Tensor> {
    let named = parameters(seed).named().unwrap().into_iter();
    let mut tensors: HashMap<_, _> =
        named.filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_owned(), t))).collect();
    tensors.insert("fc.weight".into(), Tensor::zeros((1000, 512), DType::F32, &Device::Cpu).unwrap());
    tensors.insert("fc.bias".into(), Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap());
    tensors.insert("bn1.num_batches_tracked".into(), Tensor::new(7i64, &Device::Cpu).unwrap());
    tensors
}

fn save(tensors: &HashMap<String, Tensor>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    candle_core::safetensors::save(tensors, &path).unwrap();
    (dir, path)
}

#[test]
fn a_saved_model_reads_back_bit_for_bit() {
    let saved = parameters(1);
    let bytes = weights::serialise(&saved, ("labels", "{}".into())).unwrap();
    assert_eq!(
        bytes,
        weights::serialise(&saved, ("labels", "{}".into())).unwrap(),
        "equal models, equal bytes"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs_err::write(&path, bytes).unwrap();
    let mut loaded = parameters(2);
    let version = loaded.version();
    let report = weights::load(&path, Scope::Model, &mut loaded).unwrap();
    assert_eq!(report.loaded, 110 - 2 + 72 + 8);
    assert_ne!(loaded.version(), version, "executions must notice");
    assert_eq!(values(&saved), values(&loaded));
}

#[test]
fn torchvisions_file_fills_the_backbone_and_its_classifier_is_set_aside() {
    let (_dir, path) = save(&torchvision_tensors(1));
    let mut loaded = parameters(2);
    let report = weights::load(&path, Scope::Backbone, &mut loaded).unwrap();
    assert_eq!(report.set_aside, ["fc.bias", "fc.weight"]);
    let backbone = loaded.layout().backbone();
    assert_eq!(backbone.len(), 21_284_672);
    assert_eq!(values(&loaded)[backbone.clone()], values(&parameters(1))[backbone.clone()]);
    assert_eq!(
        values(&loaded)[backbone.end..],
        values(&parameters(2))[backbone.end..],
        "heads keep their values"
    );
}

#[test]
fn half_precision_weights_are_widened() {
    let tensors = torchvision_tensors(1).into_iter().filter(|(name, _)| !name.ends_with("tracked"));
    let (_dir, path) = save(&tensors.map(|(name, t)| (name, t.to_dtype(DType::BF16).unwrap())).collect());
    let mut loaded = parameters(2);
    weights::load(&path, Scope::Backbone, &mut loaded).unwrap();
    let (expected, found) = (values(&parameters(1))[0], values(&loaded)[0]);
    assert!((expected - found).abs() <= expected.abs() / 128.0, "{expected} vs {found}");
}

#[test]
fn every_misfit_is_named_and_nothing_changes() {
    let mut tensors = torchvision_tensors(1);
    tensors.remove("layer3.2.bn2.running_var");
    tensors.insert(
        "layer1.0.conv1.weight".into(),
        Tensor::zeros((64, 64, 1, 1), DType::F32, &Device::Cpu).unwrap(),
    );
    tensors.insert(
        "layer1.0.conv2.weight".into(),
        Tensor::zeros((64, 64, 3, 3), DType::U8, &Device::Cpu).unwrap(),
    );
    tensors.insert("layer9.weight".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let (_dir, path) = save(&tensors);
    let mut loaded = parameters(2);
    let message = weights::load(&path, Scope::Backbone, &mut loaded).unwrap_err().to_string();
    for expected in [
        path.to_str().unwrap(),
        "layer3.2.bn2.running_var: missing, expected shape [256]",
        "layer1.0.conv1.weight: expected shape [64, 64, 3, 3], found [64, 64, 1, 1]",
        "layer1.0.conv2.weight: expected type F32, F16 or BF16, found U8",
        "layer9.weight: not a tensor of this network",
    ] {
        assert!(message.contains(expected), "{expected:?} is missing in {message}");
    }
    assert_eq!(message.lines().count(), 5, "one line a problem: {message}");
    assert_eq!(values(&loaded), values(&parameters(2)));
}

/// They gave plausible answers: ReLU makes a 0 of NaN.
#[test]
fn values_that_are_no_weights_are_refused_by_place() {
    let mut tensors = torchvision_tensors(1);
    let mut spoil = |name: &str, place: usize, value: f32| {
        let tensor = &tensors[name];
        let mut values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values[place] = value;
        tensors.insert(name.into(), Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap());
    };
    spoil("conv1.weight", 3 * 7 * 7 + 8, f32::NAN);
    spoil("bn1.bias", 63, f32::NEG_INFINITY);
    spoil("bn1.running_mean", 5, -1.0);
    spoil("bn1.running_var", 5, -1.0);
    spoil("layer1.0.bn1.running_var", 0, -0.0);
    spoil("layer1.0.bn2.running_var", 2, f32::INFINITY);
    spoil("fc.bias", 7, f32::NAN); // of no use, so of no harm
    let (_dir, path) = save(&tensors);
    let mut loaded = parameters(2);
    let message = weights::load(&path, Scope::Backbone, &mut loaded).unwrap_err().to_string();
    let expected = format!(
        "{}: weights do not fit the network:\
         \n  bn1.bias: expected finite numbers, found -inf at [63]\
         \n  bn1.running_var: expected finite variances of 0 or more, found -1 at [5]\
         \n  conv1.weight: expected finite numbers, found NaN at [1, 0, 1, 1]\
         \n  layer1.0.bn2.running_var: expected finite variances of 0 or more, found inf at [2]",
        path.display()
    );
    assert_eq!(message, expected);
    assert_eq!(values(&loaded), values(&parameters(2)));
    assert!(weights::convert(&path).unwrap_err().to_string() == expected);
}

/// FairFace's rows are taken apart: the place is the file's all the same.
#[test]
fn a_value_in_fairfaces_classifier_is_refused_by_its_place_in_the_file() {
    let mut fc = vec![0.0; 18 * 512];
    fc[7 * 512 + 3] = f32::NAN;
    let fc = Tensor::from_vec(fc, (18, 512), &Device::Cpu).unwrap();
    let bias = Tensor::zeros(17, DType::F32, &Device::Cpu).unwrap();
    let (_dir, path) = save(&HashMap::from([("fc.weight".into(), fc), ("fc.bias".into(), bias)]));
    let message = weights::convert(&path).unwrap_err().to_string();
    let expected = "weights do not fit the network:\
                    \n  fc.weight: expected finite numbers, found NaN at [7, 3]\
                    \n  fc.bias: expected shape [18], found [17]";
    assert_eq!(message, format!("{}: {expected}", path.display()));
}

/// Labels size the heads: a few bytes of JSON must not take 2 KB each before anybody looks at the tensors.
#[test]
fn labels_without_their_heads_are_refused_before_there_is_a_model() {
    let labels: Vec<String> = (0..300_000).map(|i| i.to_string()).collect();
    let labels = serde_json::json!({ "age": labels }).to_string();
    let metadata = HashMap::from([("labels".to_owned(), labels)]);
    let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.safetensors");
    fs_err::write(&path, safetensors::serialize([("a", tensor)], Some(metadata)).unwrap()).unwrap();
    let error = FaceModel::open(&path, &Compute::cpu(Engine::Fast)).err().unwrap().to_string();
    assert!(error.contains("age_head.weight: missing, expected shape [300000, 512]"), "{error}");
}

#[test]
fn files_that_are_no_weights_are_refused_with_their_cause() {
    let file = |header: &str, n_bytes: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; n_bytes][..]].concat()
    };
    let a = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let with_b = |b: &str| format!("{{{a},\"b\":{b}}}");
    let b = |dtype: &str, shape: &str, begin: u64, end: u64| {
        with_b(&format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#))
    };
    let good = file(&b("BF16", "[2,1]", 8, 12), 12);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.safetensors");
    let read = |bytes: &[u8]| {
        fs_err::write(&path, bytes).unwrap();
        let start = format!("{}: not a readable safetensors file: ", path.display());
        weights::read_tensors(&path).map_err(|e| {
            let message = e.to_string();
            // Where in the JSON is serde's to say.
            message.strip_prefix(&start).unwrap().split(" at line").next().unwrap().to_owned()
        })
    };
    assert_eq!(read(&good).unwrap()["b"].dims(), [2, 1]);
    for end in 0..good.len() {
        assert!(read(&good[..end]).is_err(), "cut at {end}");
    }
    for (bytes, expected) in [
        (vec![], "expected a header's length in 8 bytes, found 0 bytes"),
        (
            b"some text that is no file of weights".to_vec(),
            "expected a header of at most 4194304 bytes, found one of 8675467939688574835",
        ),
        (
            [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat(),
            "expected a header of at most 4194304 bytes, found one of 1099511627776",
        ),
        (good[..50].to_vec(), "expected a header of 111 bytes, found 42: cut off"),
        (file("{", 0), "expected a header in JSON, found: EOF while parsing an object"),
        (
            file("[]", 0),
            "expected a header in JSON, found: invalid type: sequence, expected an object of tensors by name",
        ),
        (
            file(&with_b("7"), 12),
            "expected a header in JSON, found: b: expected type, shape and place, found: invalid type: integer `7`, expected struct TensorInfo",
        ),
        (
            file(&format!("{{{a},{a}}}"), 8),
            "expected a header in JSON, found: a: expected one tensor of this name, found two",
        ),
        (
            file(&b("F32", "[2]", 4, 12), 12),
            "b: expected its bytes from 8 on, found 4: it overlaps another tensor",
        ),
        (
            file(&b("F32", "[2]", 16, 24), 24),
            "b: expected its bytes from 8 on, found 16: nothing is said of those between",
        ),
        (
            file(&b("F32", "[2]", 8, 16), 12),
            "b: expected its bytes up to 16, found the file's end at 12: cut off",
        ),
        (file(&b("F32", "[2]", 12, 8), 12), "b: expected bytes from a place to a later one, found 12 to 8"),
        (file(&b("F32", "[1]", 8, 16), 16), "b: expected 4 bytes for shape [1] of F32, found 8"),
        (
            file(&b("F32", "[4294967296,4294967296]", 8, 16), 16),
            "b: expected more than there can be bytes for shape [4294967296, 4294967296] of F32, found 8",
        ),
        (file(&b("BOOL", "[8]", 8, 16), 16), "b: expected type F32, F16, BF16 or I8 with scales, found BOOL"),
        (file(&b("F32", "[2]", 8, 16), 20), "expected 16 bytes of tensors, found 20"),
    ] {
        assert_eq!(read(&bytes).unwrap_err(), expected);
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, kind) in [
        (pipe.as_path(), "a pipe, socket or device"),
        (dir.path(), "a folder"),
        (Path::new("/dev/zero"), "a pipe, socket or device"),
    ] {
        let message = weights::load(path, Scope::Backbone, &mut parameters(2)).unwrap_err().to_string();
        assert_eq!(message, format!("{}: expected a regular file, found {kind}", path.display()));
    }
}

#[test]
fn a_checkpoint_of_other_heads_is_refused_as_a_model_and_serves_as_a_backbone() {
    let heads = [HeadSpec::new("age", 4), HeadSpec::new("gender", 2), HeadSpec::new("race", 5)];
    let other = Parameters::initialise(Architecture::Resnet34, &heads, 3, &Device::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs_err::write(&path, weights::serialise(&other, ("labels", "{}".into())).unwrap()).unwrap();
    let mut loaded = parameters(2);
    let message = weights::load(&path, Scope::Model, &mut loaded).unwrap_err().to_string();
    assert!(message.contains("age_head.weight: expected shape [9, 512], found [4, 512]"), "{message}");
    let report = weights::load(&path, Scope::Backbone, &mut loaded).unwrap();
    assert!(report.set_aside.contains(&"age_head.weight".to_owned()), "{report:?}");
}

/// FairFace's release has one `fc` on the embedding. As a model of this crate it must give the very same logits.
#[test]
fn fairfaces_classifier_becomes_three_heads_with_its_logits() {
    let mut tensors = torchvision_tensors(1);
    let ramp = |n: usize| (0..n).map(|i| (i * 37 % 101) as f32 / 100.0 - 0.5).collect::<Vec<f32>>();
    let fc = Tensor::from_vec(ramp(18 * 512), (18, 512), &Device::Cpu).unwrap();
    let bias = Tensor::from_vec(ramp(18), 18, &Device::Cpu).unwrap();
    tensors.insert("fc.weight".into(), fc.clone());
    tensors.insert("fc.bias".into(), bias.clone());
    let (_dir, path) = save(&tensors);

    let (mut model, labels) = FaceModel::open(&path, &Compute::cpu(Engine::Fast)).unwrap();
    let images = Tensor::ones((1, 3, 64, 64), DType::F32, &Device::Cpu).unwrap();
    let prediction = model.predict(&images).unwrap();
    let logits = prediction.embedding.matmul(&fc.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
    let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    let of = |task: usize, label: &str| {
        let id = labels[task].labels.iter().position(|l| l == label).unwrap();
        prediction.logits[task].flatten_all().unwrap().to_vec1::<f32>().unwrap()[id]
    };
    for (row, task, label) in
        [(0, 2, "White"), (3, 2, "East Asian"), (7, 1, "Male"), (10, 0, "3-9"), (17, 0, "more than 70")]
    {
        let (expected, found) = (logits[row], of(task, label));
        assert!(
            (expected - found).abs() <= 1e-5 * expected.abs().max(1.0),
            "{label}: {found}, expected {expected}"
        );
    }

    let as_backbone = weights::load(&path, Scope::Backbone, &mut parameters(2)).unwrap();
    assert_eq!(as_backbone.set_aside, ["fc.bias", "fc.weight"]);
    let converted = weights::convert(&path).unwrap();
    assert_eq!((converted.kind, converted.params), (weights::Kind::Fairface, 21_556_562));
    fs_err::write(&path, converted.bytes).unwrap();
    let (again, same_labels) = FaceModel::open(&path, &Compute::cpu(Engine::Fast)).unwrap();
    assert_eq!(labels, same_labels);
    assert_eq!(values(again.parameters()), values(model.parameters()));
}

/// A ResNet-18's values, and its file as torchvision writes it: without a word about what it is.
fn resnet18() -> (Parameters, HashMap<String, Tensor>) {
    let heads = [HeadSpec::new("age", 3)];
    let parameters = Parameters::initialise(Architecture::Resnet18, &heads, 5, &Device::Cpu).unwrap();
    let named = parameters.named().unwrap().into_iter();
    let backbone = named.filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_owned(), t)));
    let backbone = backbone.collect();
    (parameters, backbone)
}

#[test]
fn torchvisions_resnet18_is_told_by_its_names() {
    let (original, mut tensors) = resnet18();
    tensors.insert("fc.bias".into(), Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap());
    let (_dir, path) = save(&tensors);
    let file = WeightFile::read(&path).unwrap();
    assert_eq!(file.architecture(), Architecture::Resnet18);
    file.check(Scope::Backbone, &[]).unwrap();
    let mut loaded = Parameters::initialise(Architecture::Resnet18, &[], 6, &Device::Cpu).unwrap();
    let report = file.fill(Scope::Backbone, &mut loaded).unwrap();
    assert_eq!((report.loaded, report.set_aside), (60 + 40, vec!["fc.bias".to_owned()]));
    let backbone = original.layout().backbone();
    assert_eq!(values(&original)[backbone.clone()], values(&loaded)[backbone]);
    assert_eq!(weights::convert(&path).unwrap().params, 11_176_512);

    // The other network is refused in one line, not in a hundred.
    let message = file.fill(Scope::Backbone, &mut parameters(2)).unwrap_err().to_string();
    assert!(
        message.ends_with("fit the network:\n  the backbone: expected resnet34, found resnet18"),
        "{message}"
    );
    let (_dir, path) = save(&torchvision_tensors(1));
    let message = weights::load(&path, Scope::Backbone, &mut loaded).unwrap_err().to_string();
    assert!(message.ends_with("the backbone: expected resnet18, found resnet34"), "{message}");

    // What lacks a part of it is not taken for it.
    tensors.remove("layer4.1.conv2.weight");
    let (_dir, path) = save(&tensors);
    let message = weights::load(&path, Scope::Backbone, &mut loaded).unwrap_err().to_string();
    assert!(message.contains("layer4.1.conv2.weight: missing, expected shape [512, 512, 3, 3]"), "{message}");
}

#[test]
fn a_model_file_says_its_architecture_where_it_is_not_resnet34() {
    let (original, backbone) = resnet18();
    let labels = r#"{"age":["\"0-2\"","3-9","10+"]}"#;
    let write = |parameters: &Parameters| weights::serialise(parameters, ("labels", labels.into())).unwrap();
    let bytes = write(&original);
    assert!(bytes == write(&original), "equal models, equal bytes");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!((metadata["architecture"].as_str(), metadata["labels"].as_str()), ("resnet18", labels));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs_err::write(&path, &bytes).unwrap();
    let (model, tasks) = FaceModel::open(&path, &Compute::cpu(Engine::Fast)).unwrap();
    assert_eq!((model.architecture(), &*tasks[0].labels[0]), (Architecture::Resnet18, "\"0-2\""));
    assert_eq!(values(model.parameters()), values(&original));

    // ResNet-34's files are what they have always been.
    let resnet34 =
        Parameters::initialise(Architecture::Resnet34, &[HeadSpec::new("age", 3)], 5, &Device::Cpu);
    let resnet34 = resnet34.unwrap();
    let metadata = HashMap::from([("labels".to_owned(), labels.to_owned())]);
    assert!(write(&resnet34) == safetensors::serialize(resnet34.named().unwrap(), Some(metadata)).unwrap());

    let strange = HashMap::from([("architecture".to_owned(), "resnet50".to_owned())]);
    fs_err::write(&path, safetensors::serialize(&backbone, Some(strange)).unwrap()).unwrap();
    let message = weights::convert(&path).unwrap_err().to_string();
    let expected = "architecture in the metadata: expected resnet18 or resnet34, found `resnet50`";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn a_backbone_alone_does_not_open_as_a_model() {
    let (_dir, path) = save(&torchvision_tensors(1));
    let error = FaceModel::open(&path, &Compute::cpu(Engine::Fast)).err().unwrap();
    assert!(matches!(error, Error::NoHeads { .. }), "{error}");
    let converted = weights::convert(&path).unwrap();
    assert!(converted.bytes == fs_err::read(&path).unwrap(), "what needs no change keeps its bytes");
}

/// Values and statistics by name.
fn named(parameters: &Parameters) -> HashMap<String, Tensor> {
    parameters.named().unwrap().into_iter().collect()
}

#[test]
fn eight_bits_keep_every_weight_to_half_a_step_of_its_channel_and_all_else_whole() {
    let saved = parameters(3);
    // A channel of zeros, and one of values that 8 bits of the tensor's largest would round to nothing.
    let entry = saved.layout().get("backbone.layer2.0.conv1.weight").unwrap();
    let (offset, len) = (entry.offset, entry.len() / 128);
    saved.values().slice_set(&Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap(), 0, offset).unwrap();
    let tiny = Tensor::arange(0f32, len as f32, &Device::Cpu).unwrap().affine(1e-9, 0.0).unwrap();
    saved.values().slice_set(&tiny, 0, offset + len).unwrap();
    let labels: Vec<TaskLabels> = [("age", 9), ("gender", 2), ("race", 5)]
        .map(|(task, n)| TaskLabels {
            task: ff_core::Schema::fairface().task(task).unwrap().clone(),
            labels: (0..n).map(|i| format!("{i}")).collect(),
        })
        .into();
    let bytes = weights::compact(&saved, &labels).unwrap();
    assert_eq!(bytes, weights::compact(&saved, &labels).unwrap(), "equal models, equal bytes");
    let whole = weights::serialise(&saved, ("labels", "{}".into())).unwrap();
    assert!(bytes.len() * 100 < whole.len() * 26, "{} of {}", bytes.len(), whole.len());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("compact.safetensors");
    fs_err::write(&path, &bytes).unwrap();
    let (opened, found) = FaceModel::open(&path, &Compute::cpu(Engine::Reference)).unwrap();
    assert_eq!(found, labels);
    let (saved, opened) = (named(&saved), named(opened.parameters()));
    for (name, tensor) in &saved {
        let [expected, found] =
            [tensor, &opened[name]].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        if tensor.rank() == 1 {
            assert_eq!(expected, found, "{name}");
            continue;
        }
        if name.contains("backbone.conv1") || name.contains("layer1") {
            assert!(
                expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= a.abs() / 2048.0 + 6e-8),
                "{name}"
            );
            continue;
        }
        let len = expected.len() / tensor.dim(0).unwrap();
        for (expected, found) in expected.chunks(len).zip(found.chunks(len)) {
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            let bound = largest / 127.0 * 0.5001;
            assert!(expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= bound), "{name}: {largest}");
        }
    }
    // What was in 8 bits once stays what it is.
    let again = weights::compact(&WeightFile::read(&path).unwrap().parameters().unwrap().0, &labels);
    assert_eq!(bytes, again.unwrap());
}

#[test]
fn a_backbone_in_eight_bits_is_read_wherever_weights_are() {
    let bytes = weights::compact(&resnet18().0, &[]).unwrap();
    let file = WeightFile::parse(Path::new("resnet18.safetensors"), bytes.clone()).unwrap();
    assert_eq!((file.kind(), file.architecture()), (weights::Kind::Backbone, Architecture::Resnet18));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resnet18.safetensors");
    fs_err::write(&path, &bytes).unwrap();
    let converted = weights::convert(&path).unwrap();
    assert_eq!(converted.bytes, bytes, "it needs no change");
    let read = weights::read_tensors(&path).unwrap();
    assert_eq!(read["layer4.0.conv1.weight"].dtype(), DType::F32);
    assert!(read.keys().all(|name| !name.ends_with(".scale")));
}

#[test]
fn eight_bits_without_scales_that_fit_are_refused_by_name() {
    let name = "layer1.0.conv1.weight";
    let codes = |codes: Vec<i8>, shape: &[usize]| {
        (Dtype::I8, shape.to_vec(), codes.into_iter().map(|c| c as u8).collect::<Vec<u8>>())
    };
    let floats = |values: &[f32], shape: &[usize]| {
        (Dtype::F32, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    };
    let sound = || codes(vec![1; 4], &[2, 2]);
    for (weight, scale, expected) in [
        (sound(), None, "expected scales of its 2 output channels beside it"),
        (sound(), Some(floats(&[1.0], &[1])), "expected scales of shape [2] in F32, found [1]"),
        (sound(), Some(codes(vec![1, 1], &[2])), "expected scales of its 2 output channels beside it"),
        (sound(), Some(floats(&[1.0, 0.0], &[2])), "expected scales that are finite and above 0, found 0"),
        (sound(), Some(floats(&[f32::NAN, 1.0], &[2])), "finite and above 0, found NaN"),
        (codes(vec![-128; 4], &[2, 2]), Some(floats(&[1.0, 1.0], &[2])), "from -127 to 127, found -128"),
        (codes(vec![1], &[]), Some(floats(&[1.0], &[1])), "found a scalar"),
    ] {
        let mut tensors = vec![(name.to_owned(), weight)];
        tensors.extend(scale.map(|scale| (format!("{name}.scale"), scale)));
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        let message = WeightFile::parse(Path::new("x"), bytes).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(expected), "{expected}: {message}");
    }
}
