//! PyTorch's numbers for the FairFace model on eight real faces, for every engine.
//!
//! The expected tensors were made by `make_golden.py`, which lies beside them in the test data.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Module, Tensor};
use ff_model::{Compute, Dropout, Engine, FaceModel, HeadSpec, TrainPass, weights};
use ff_tests::{relative_error, repository, tensors, test_data};
use ff_train::losses::{MultiTaskLoss, multi_task};
use ff_train::optimizer::{DecayScope, Optimizer, OptimizerConfig, OptimizerKind};
use ff_train::trainer::optimizer_step;

const TASKS: [&str; 3] = ["age", "gender", "race"];

struct Golden {
    weights: PathBuf,
    tensors: HashMap<String, Tensor>,
    images: Tensor,
    targets: Vec<Tensor>,
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
    fn model(&self, engine: Engine) -> FaceModel {
        let heads =
            [("age", 9), ("gender", 2), ("race", 7)].map(|(task, classes)| HeadSpec::new(task, classes));
        let mut model = FaceModel::new(&heads, &Compute::cpu(engine), 0).unwrap();
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
                    values.slice_set(&self.tensors[&entry.name].flatten_all()?, 0, entry.offset)?;
                }
                Ok::<_, candle_core::Error>(())
            })
            .unwrap();
        model
    }

    fn forward(&self, model: &mut FaceModel) -> (TrainPass, MultiTaskLoss) {
        let pass = model.forward_train(&self.images, Dropout { rate: 0.0, seed: 0, step: 1 }).unwrap();
        let loss = multi_task(&pass.logits, &self.targets).unwrap();
        (pass, loss)
    }
}

#[track_caller]
fn assert_within(what: &str, error: f64, bound: f64) {
    assert!(error <= bound, "{what}: relative error {error:.2e}, allowed {bound:.0e}");
}

#[test]
fn eval_embedding_and_logits() {
    let Some(golden) = Golden::load("eval_embedding_and_logits") else { return };
    for engine in Engine::ALL {
        let prediction = golden.model(engine).predict(&golden.images).unwrap();
        let error = relative_error(&prediction.embedding, &golden.tensors["eval.embedding"]);
        println!("{engine:?}: eval embedding off by {error:.2e}");
        assert_within("eval embedding", error, 1e-3);
        for (task, logits) in TASKS.iter().zip(&prediction.logits) {
            let error = relative_error(logits, &golden.tensors[&format!("eval.logits.{task}")]);
            assert_within(&format!("eval logits {task}"), error, 1e-3);
        }
    }
}

#[test]
fn first_step_loss_gradients_and_running_statistics() {
    let Some(golden) = Golden::load("first_step_loss_gradients_and_running_statistics") else { return };
    let in_f64 = tensors(&repository().join("tests/golden_f64/gradients.safetensors"));
    for engine in Engine::ALL {
        let mut model = golden.model(engine);
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
            // Where PyTorch in f32 and in f64 disagree, agreeing with either will do: see golden_f64/make.py.
            let expected = [&golden.tensors, &in_f64].into_iter().filter_map(|tensors| tensors.get(&key));
            let error = expected.map(|e| relative_error(&first, e)).fold(f64::INFINITY, f64::min);
            errors.push((error.max(norm_error), entry.name.as_str()));
        }
        errors.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!("{engine:?}: largest gradient errors {:?}", &errors[..6]);
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
    for engine in Engine::ALL {
        for (name, config) in [("adamw.loss", &adamw), ("sgd.loss", &sgd)] {
            let mut model = golden.model(engine);
            let mut optimizer = Optimizer::for_model(config.clone(), &model).unwrap();
            for (step, expected) in golden.tensors[name].to_vec1::<f32>().unwrap().into_iter().enumerate() {
                let (pass, loss) = golden.forward(&mut model);
                let value = loss.total.to_scalar::<f32>().unwrap();
                println!("{engine:?}: {name} step {step}: {value:.5}, PyTorch {expected:.5}");
                assert_within(
                    &format!("{name} step {step}"),
                    f64::from((value - expected).abs() / expected),
                    0.02,
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
    for engine in Engine::ALL {
        let ours = golden.model(engine).embed(&images).unwrap();
        assert_within("eval embedding", relative_error(&ours, &theirs), 1e-4);
    }
}
