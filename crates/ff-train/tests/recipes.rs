//! Sharpness-aware steps and the statistics of averaged weights, against the same arithmetic done by hand on the model.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use candle_core::{Device, Tensor};
use ff_core::Encoders;
use ff_model::{Dropout, FaceModel};
use ff_train::feed::{Feeder, InputBatch};
use ff_train::learner::{Learner, StepPosition, estimate_statistics};
use ff_train::loss::multi_task;
use ff_train::position::Position;
use ff_train::ranks::Alone;
use ff_train::records::Seconds;
use ff_train::setup::{build_model, train_feeder};
use ff_train::{Config, ConfigBuilder, Preset};

const RHO: f64 = 0.5;
const LR: f64 = 0.1;

fn config(rho: f64, batch_size: usize) -> Config {
    ConfigBuilder::new(Preset::Sample, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .set("data.image_size", Some(64))
        .set("data.batch_size", Some(batch_size))
        .set("data.workers", Some(1))
        .set("data.augment", Some("fastest"))
        .set("model.backbone", Some("resnet18"))
        .set("model.dropout", Some(0.0))
        .set("train.threads", Some(1))
        .set("optimizer.kind", Some("sgd"))
        .set("optimizer.lr", Some(LR))
        .set("optimizer.momentum", Some(0.0))
        .set("optimizer.weight_decay", Some(0.0))
        .set("optimizer.accumulate", Some(2))
        .set("schedule.kind", Some("constant"))
        .set("schedule.warmup_epochs", Some(0.0))
        .set("optimizer.sam_rho", Some(rho))
        .resolve()
        .unwrap()
}

fn open(config: &Config) -> (FaceModel, Feeder, Encoders) {
    let splits = config.read_splits().unwrap();
    let model = build_model(config, &splits.encoders).unwrap();
    let feeder = train_feeder(config, splits.train, &splits.encoders, &model).unwrap();
    (model, feeder, splits.encoders)
}

/// The parameters after one step of the learner.
fn stepped(config: &Config) -> Vec<f32> {
    let (model, mut feeder, encoders) = open(config);
    let mut learner =
        Learner::for_split(config, model, &encoders, feeder.loader(), &Position::default()).unwrap();
    let at = StepPosition { epoch: 1, step: 1, scheduled: 1, batches_before: 0, batches: 2 };
    let mut seconds = Seconds::default();
    let pending = learner.step(&mut feeder.epoch(0, 0), &mut Alone, at, &mut seconds).unwrap().unwrap();
    learner.resolve(pending, &mut seconds).unwrap();
    learner.model.parameters().values().to_vec1().unwrap()
}

/// The mean gradient of the first two batches at these parameters.
fn gradient(config: &Config, at: &[f32]) -> Vec<f32> {
    let (mut model, mut feeder, _) = open(config);
    let at = Tensor::new(at, &Device::Cpu).unwrap();
    model.parameters_mut().update(|values, _| values.slice_set(&at, 0, 0)).unwrap();
    let mut sum = vec![0.0; at.elem_count()];
    for batch in feeder.epoch(0, 0).take(2) {
        let InputBatch { images, samples } = batch.unwrap();
        let images = images.ready(None, &Device::Cpu).unwrap();
        let none = Dropout { rate: 0.0, seed: 0, step: 1 };
        let pass = model.forward_train_collecting(images.images(), none).unwrap();
        let loss = multi_task(&pass.logits, &samples.targets_on(&Device::Cpu).unwrap()).unwrap().total;
        model.backward(&pass, &loss).unwrap();
        let gradient = model.gradient().to_vec1::<f32>().unwrap();
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += 0.5 * g);
    }
    sum
}

#[test]
fn a_sharpness_aware_step_follows_the_gradient_up_the_hill() {
    let config = config(RHO, 4);
    let start: Vec<f32> = open(&config).0.parameters().values().to_vec1().unwrap();
    let first = gradient(&config, &start);
    let norm = first.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let up = |(w, g): (&f32, &f32)| (f64::from(*w) + RHO * f64::from(*g) / norm) as f32;
    let hill: Vec<f32> = start.iter().zip(&first).map(up).collect();
    let second = gradient(&config, &hill);
    let moved = |gradient: &[f32]| -> Vec<f64> { gradient.iter().map(|g| -LR * f64::from(*g)).collect() };
    let found: Vec<f64> =
        stepped(&config).iter().zip(&start).map(|(after, before)| f64::from(after - before)).collect();
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let length = distance(&found, &vec![0.0; found.len()]);
    let to_second = distance(&found, &moved(&second)) / length;
    let to_first = distance(&found, &moved(&first)) / length;
    // Weights of f32 hold a difference to about 1e-4 of it.
    assert!(to_second < 2e-3, "{to_second} from the gradient at the hill");
    assert!(to_first > 0.05, "{to_first} from the plain gradient: the hill is no different");
}

/// As `torch.optim.swa_utils.update_bn`, whose momentum of `None` is the plain mean over batches.
#[test]
fn statistics_are_the_mean_of_what_training_batches_have() {
    let config = config(0.0, 128);
    let (mut model, mut feeder, _) = open(&config);
    let batches: Vec<Vec<f64>> = feeder
        .epoch(3, 0)
        .map(|batch| {
            let images = batch.unwrap().images.ready(None, &Device::Cpu).unwrap();
            let none = Dropout { rate: 0.0, seed: 0, step: 0 };
            model.forward_train_collecting(images.images(), none).unwrap().statistics.unwrap()
        })
        .collect();
    assert_eq!(batches.len(), 4);
    let before = model.parameters().values().to_vec1::<f32>().unwrap();
    estimate_statistics(&mut model, &mut feeder, &mut Alone, 3).unwrap();
    let found = model.parameters().statistics().to_vec1::<f32>().unwrap();
    for (i, found) in found.into_iter().enumerate() {
        let mean = batches.iter().map(|of_batch| of_batch[i]).sum::<f64>() / 4.0;
        assert!((f64::from(found) - mean).abs() <= 1e-6 * mean.abs().max(1e-3), "{i}: {found} vs {mean}");
    }
    assert_eq!(model.parameters().values().to_vec1::<f32>().unwrap(), before);
}
