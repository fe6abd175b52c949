//! PyTorch's numbers for the FairFace model on eight real faces, for every engine.
//!
//! The expected tensors were made by `make_golden.py`, which lies beside them in the test data. The engines are the
//! CPU's unless `FAIRFACE_TEST_DEVICE=cuda` asks for a GPU's, in a build with the feature `cuda`. f32 has the same
//! bounds there; of bf16 are asked a cosine of the embeddings above 0.999 and losses of ten steps within 3 %.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stderr, reason = "a test says what it skips")]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Module, Tensor};
use ff_model::{
    Architecture, Compute, DeviceSpec, Dropout, Engine, FaceModel, HeadSpec, Precision, TrainPass, weights,
};
use ff_tests::{relative_error, repository, smallest_cosine, tensors, test_data};
use ff_train::loss::{MultiTaskLoss, multi_task};
use ff_train::optim::{DecayScope, Optimizer, OptimizerConfig, OptimizerKind, optimizer_step};

const TASKS: [&str; 3] = ["age", "gender", "race"];

struct Golden {
    weights: PathBuf,
    tensors: HashMap<String, Tensor>,
    images: Tensor,
    targets: Vec<Tensor>,
}

/// An execution to be checked.
#[derive(Clone, Copy)]
struct Subject {
    device: DeviceSpec,
    engine: Engine,
    precision: Precision,
}

impl Subject {
    /// Those that run on the device that the tests are for.
    fn all() -> Vec<Self> {
        let name = std::env::var("FAIRFACE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
        let device: DeviceSpec = name.parse().unwrap();
        let f32 = Precision::F32 { tf32: false };
        let of = |engine, precision| Self { device, engine, precision };
        let mut all: Vec<_> = Engine::ALL.into_iter().map(|engine| of(engine, f32)).collect();
        if device == DeviceSpec::Cpu {
            eprintln!(
                "engines on CUDA: skipped, FAIRFACE_TEST_DEVICE=cuda asks for them in a build with the feature"
            );
        } else {
            all.push(of(Engine::Fast, Precision::Bf16));
        }
        all
    }

    fn compute(self) -> Compute {
        let device = self.device.open().unwrap();
        Compute { device, precision: self.precision, ..Compute::cpu(self.engine) }
    }

    fn is_bf16(self) -> bool {
        self.precision == Precision::Bf16
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.device, self.engine.name(), self.precision)
    }
}

impl Golden {
    fn load(test: &str) -> Option<Self> {
        let weights = test_data(test, "weights/resnet34-imagenet.safetensors")?;
        let tensors = tensors(&test_data(test, "golden/fairface_golden.safetensors")?);
        let per_channel = |v: [f32; 3]| Tensor::new(&v, &Device::Cpu).unwrap().reshape((1, 3, 1, 1)).unwrap();
        let images = tensors["images_u8"].permute((0, 3, 1, 2)).unwrap().to_dtype(DType::F32).unwrap();
        let images = (images / 255.0).unwrap().broadcast_sub(&per_channel([0.485, 0.456, 0.406])).unwrap();
        let images = images.broadcast_div(&per_channel([0.229, 0.224, 0.225])).unwrap().contiguous().unwrap();
        let targets =
            TASKS.map(|task| tensors[&format!("target.{task}")].to_dtype(DType::U32).unwrap()).to_vec();
        Some(Self { weights, tensors, images, targets })
    }

    /// The model with PyTorch's weights, heads included.
    fn model(&self, subject: Subject) -> FaceModel {
        let heads =
            [("age", 9), ("gender", 2), ("race", 7)].map(|(task, classes)| HeadSpec::new(task, classes));
        let mut model = FaceModel::new(Architecture::default(), &heads, &subject.compute(), 0).unwrap();
        let report = weights::load(&self.weights, weights::Scope::Backbone, model.parameters_mut()).unwrap();
        assert_eq!(
            report.set_aside,
            ["fc.bias", "fc.weight"].map(String::from).to_vec()[..report.set_aside.len()]
        );
        let layout = model.parameters().layout().clone();
        model
            .parameters_mut()
            .update(|values, _| {
                let heads = layout.entries().iter().filter(|e| !e.name.starts_with("backbone."));
                for entry in heads {
                    let value = self.tensors[&entry.name].flatten_all()?.to_device(values.device())?;
                    values.slice_set(&value, 0, entry.offset)?;
                }
                Ok::<_, candle_core::Error>(())
            })
            .unwrap();
        model
    }

    fn forward(&self, model: &mut FaceModel) -> (TrainPass, MultiTaskLoss) {
        let device = model.device();
        let targets: Vec<_> = self.targets.iter().map(|t| t.to_device(device).unwrap()).collect();
        let images = self.images_for(model);
        let pass = model.forward_train(&images, Dropout { rate: 0.0, seed: 0, step: 1 }).unwrap();
        let loss = multi_task(&pass.logits, &targets).unwrap();
        (pass, loss)
    }

    /// The images where the model computes.
    fn images_for(&self, model: &FaceModel) -> Tensor {
        self.images.to_device(model.device()).unwrap()
    }
}

#[track_caller]
fn assert_within(what: &str, error: f64, bound: f64) {
    assert!(error <= bound, "{what}: relative error {error:.2e}, allowed {bound:.0e}");
}

#[test]
fn eval_embedding_and_logits() {
    let Some(golden) = Golden::load("eval_embedding_and_logits") else { return };
    for subject in Subject::all() {
        let mut model = golden.model(subject);
        let prediction = model.predict(&golden.images_for(&model)).unwrap();
        let error = relative_error(&prediction.embedding, &golden.tensors["eval.embedding"]);
        println!("{subject}: eval embedding off by {error:.2e}");
        if subject.is_bf16() {
            let cosine = smallest_cosine(&prediction.embedding, &golden.tensors["eval.embedding"]);
            assert!(cosine > 0.999, "{subject}: smallest cosine of the embeddings {cosine}");
            continue;
        }
        assert_within("eval embedding", error, 1e-3);
        for (task, logits) in TASKS.iter().zip(&prediction.logits) {
            let error = relative_error(logits, &golden.tensors[&format!("eval.logits.{task}")]);
            assert_within(&format!("eval logits {task}"), error, 1e-3);
        }
    }
}

/// The bundled weights are the test data's in 8 bits: what that costs on real faces.
#[test]
fn bundled_weights_give_nearly_the_same_embedding() {
    let Some(golden) = Golden::load("bundled_weights_give_nearly_the_same_embedding") else { return };
    let mut model = golden.model(Subject::all()[0]);
    let bundled = repository().join("data/weights/resnet34-imagenet.safetensors");
    weights::load(&bundled, weights::Scope::Backbone, model.parameters_mut()).unwrap();
    let prediction = model.predict(&golden.images_for(&model)).unwrap();
    let error = relative_error(&prediction.embedding, &golden.tensors["eval.embedding"]);
    let cosine = smallest_cosine(&prediction.embedding, &golden.tensors["eval.embedding"]);
    println!("8 bits: eval embedding off by {error:.2e}, smallest cosine {cosine:.6}");
    assert_within("eval embedding in 8 bits", error, 3e-2);
}

#[test]
fn first_step_loss_gradients_and_running_statistics() {
    let Some(golden) = Golden::load("first_step_loss_gradients_and_running_statistics") else { return };
    let in_f64 = tensors(&repository().join("tests/golden_f64/gradients.safetensors"));
    for subject in Subject::all() {
        if subject.is_bf16() {
            eprintln!(
                "{subject}: skipped, these bounds are f32's; `sanity --device cuda --full` compares gradients"
            );
            continue;
        }
        let mut model = golden.model(subject);
        let (pass, loss) = golden.forward(&mut model);
        let expected = golden.tensors["train.loss"].to_vec1::<f32>().unwrap()[0];
        let loss_value = loss.total.to_scalar::<f32>().unwrap();
        assert!((loss_value - expected).abs() <= 1e-4, "loss {loss_value}, expected {expected}");
        assert_within("embedding", relative_error(&pass.embedding, &golden.tensors["train.embedding"]), 1e-3);

        model.backward(&pass, &loss.total).unwrap();
        // Every tensor before the verdict: where errors lie says more than that there is one.
        let mut errors = Vec::new();
        for entry in model.parameters().layout().entries() {
            let gradient = model.gradient_of(&entry.name).unwrap().flatten_all().unwrap();
            let norm = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().reshape(1).unwrap();
            let norm_error = relative_error(&norm, &golden.tensors[&format!("grad.norm.{}", entry.name)]);
            let first = gradient.narrow(0, 0, entry.len().min(2048)).unwrap();
            let key = format!("grad.first.{}", entry.name);
            // Where one activation's side decides, PyTorch in f32 or f64 on either will do: see golden_f64/make.py.
            let other_sides = format!("{key}@");
            let in_f64 = in_f64.iter().filter(|(name, _)| **name == key || name.starts_with(&other_sides));
            let expected = golden.tensors.get(&key).into_iter().chain(in_f64.map(|(_, tensor)| tensor));
            let error = expected.map(|e| relative_error(&first, e)).fold(f64::INFINITY, f64::min);
            errors.push((error.max(norm_error), entry.name.as_str()));
        }
        errors.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!("{subject}: largest gradient errors {:?}", &errors[..6]);
        assert_within(&format!("gradient of {}", errors[0].1), errors[0].0, 0.01);
        for entry in model.parameters().statistics_layout().entries() {
            let statistic = model.parameters().get(&entry.name).unwrap();
            let error = relative_error(&statistic, &golden.tensors[&format!("stats.{}", entry.name)]);
            assert_within(&entry.name, error, 1e-4);
        }
    }
}

#[test]
fn ten_steps_of_adamw_and_sgd() {
    let Some(golden) = Golden::load("ten_steps_of_adamw_and_sgd") else { return };
    // PyTorch was given no parameter groups, so everything decays.
    let base = OptimizerConfig { decay: DecayScope::All, ..OptimizerConfig::default() };
    let adamw = OptimizerConfig { kind: OptimizerKind::AdamW, lr: 1e-4, weight_decay: 1e-2, ..base.clone() };
    let sgd =
        OptimizerConfig { kind: OptimizerKind::Sgd, lr: 1e-3, weight_decay: 1e-4, momentum: 0.9, ..base };
    for subject in Subject::all() {
        let allowed = if subject.is_bf16() { 0.03 } else { 0.02 };
        for (name, config) in [("adamw.loss", &adamw), ("sgd.loss", &sgd)] {
            let mut model = golden.model(subject);
            let mut optimizer = Optimizer::for_model(config.clone(), &model).unwrap();
            for (step, expected) in golden.tensors[name].to_vec1::<f32>().unwrap().into_iter().enumerate() {
                let (pass, loss) = golden.forward(&mut model);
                let value = loss.total.to_scalar::<f32>().unwrap();
                println!("{subject}: {name} step {step}: {value:.5}, PyTorch {expected:.5}");
                assert_within(
                    &format!("{name} step {step}"),
                    f64::from((value - expected).abs() / expected),
                    allowed,
                );
                model.backward(&pass, &loss.total).unwrap();
                optimizer_step(&mut model, &mut optimizer).unwrap();
            }
        }
    }
}

/// A second opinion that shares no code with ours beyond candle's operations.
#[test]
fn eval_embedding_agrees_with_candle_transformers() {
    let Some(golden) = Golden::load("eval_embedding_agrees_with_candle_transformers") else { return };
    let images = golden.images.narrow(0, 0, 2).unwrap();
    let builder = candle_nn::VarBuilder::from_tensors(tensors(&golden.weights), DType::F32, &Device::Cpu);
    let theirs = candle_transformers::models::resnet::resnet34_no_final_layer(builder).unwrap();
    let theirs = theirs.forward(&images).unwrap();
    for subject in Subject::all().into_iter().filter(|subject| !subject.is_bf16()) {
        let mut model = golden.model(subject);
        let ours = model.embed(&images.to_device(model.device()).unwrap()).unwrap();
        assert_within("eval embedding", relative_error(&ours, &theirs), 1e-4);
    }
}
