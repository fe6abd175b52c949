//! Test-time augmentation on real faces.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use ff_core::Schema;
use ff_data::{Dataset, Loader, LoaderConfig, Manifest, Mode, Splits};
use ff_eval::{TestTimeAugmentation, softmax};
use ff_model::{Architecture, Compute, Engine, FaceModel};
use ff_train::feed::{Augmentation, Feeder};
use ff_train::infer::{Predictor, Trained, predict, predict_with};
use ff_train::setup::heads;

/// What averaging over an image and its mirror image should be, step by step, on real faces.
#[test]
fn flipping_averages_the_probabilities_of_image_and_mirror_image() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample");
    let Splits { val, encoders, .. } = Splits::read(sample.join("splits"), &Schema::fairface()).unwrap();
    let rows = val.rows()[..3].to_vec();
    let manifest = Manifest::new("three faces", val.schema(), val.extra_columns().to_vec(), rows).unwrap();
    let dataset = Dataset::open(manifest, sample.join("images"), &encoders, Mode::Eval).unwrap();
    let (dataset, config) = (Arc::new(dataset), LoaderConfig::eval(2));
    let compute = Compute { threads: 1, ..Compute::cpu(Engine::Fast) };
    let mut model = FaceModel::new(Architecture::default(), &heads(&encoders), &compute, 1).unwrap();
    let mut feeder = Feeder::new(Arc::clone(&dataset), config, &model, Augmentation::OnDevice).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let plain = predict(&mut model, &mut feeder, go_on).unwrap().unwrap();
    let flipped =
        predict_with(TestTimeAugmentation::Flip, &[], &mut model, &mut feeder, go_on).unwrap().unwrap();
    assert_eq!((&plain.targets, &plain.files), (&flipped.targets, &flipped.files));

    let batch = Loader::new(dataset, config).unwrap().epoch(0, 0).next().unwrap().unwrap();
    let mut mirrored = batch.planes().to_vec();
    mirrored.chunks_exact_mut(batch.shape[3]).for_each(<[f32]>::reverse);
    let mirrored = Tensor::from_vec(mirrored, &batch.shape, &Device::Cpu).unwrap();
    let logits = model.predict(&mirrored).unwrap().logits;
    for (i, task) in encoders.names().enumerate() {
        let mirrored: Vec<f32> = logits[i].to_vec2().unwrap().iter().flat_map(|row| softmax(row)).collect();
        let both = plain.probabilities[task].iter().zip(&mirrored).zip(&flipped.probabilities[task]);
        for ((p, q), found) in both {
            assert!((0.5 * (p + q) - found).abs() < 1e-6, "{task}: {p} and {q} gave {found}");
        }
        let changed = plain.probabilities[task].iter().zip(&flipped.probabilities[task]).any(|(a, b)| a != b);
        assert!(changed, "{task}: mirrored faces are other images");
    }
}

/// The way that `predict` goes, and the one that `evaluate` goes.
#[test]
fn ten_views_are_other_answers_than_two_and_the_same_on_both_ways() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample");
    let Splits { val, encoders, .. } = Splits::read(sample.join("splits"), &Schema::fairface()).unwrap();
    let rows = val.rows()[..3].to_vec();
    let manifest = Manifest::new("three faces", val.schema(), val.extra_columns().to_vec(), rows).unwrap();
    let open = || Dataset::open(manifest.clone(), sample.join("images"), &encoders, Mode::Eval).unwrap();
    let open = || open().with_image_size(64).unwrap();
    let config = LoaderConfig::eval(2);
    let compute = Compute { threads: 1, ..Compute::cpu(Engine::Fast) };
    let model = || FaceModel::new(Architecture::Resnet18, &heads(&encoders), &compute, 1).unwrap();
    let mut evaluated = Vec::new();
    for views in [TestTimeAugmentation::Flip, TestTimeAugmentation::Shifts] {
        let mut model = model();
        let mut feeder = Feeder::new(Arc::new(open()), config, &model, Augmentation::OnDevice).unwrap();
        let go_on = |_| ControlFlow::Continue(());
        let found = predict_with(views, &[], &mut model, &mut feeder, go_on).unwrap().unwrap();
        let (encoders, path) = (encoders.clone(), "x".into());
        let trained = Trained { model, encoders, path, step: None, image_size: None };
        let mut rows = Vec::new();
        let mut predictor = Predictor::new(trained).with_views(views);
        let each = |faces| {
            rows.extend::<Vec<ff_train::infer::FacePrediction>>(faces);
            Ok(ControlFlow::Continue(()))
        };
        assert_eq!(predictor.predict(open(), config, each).unwrap(), []);
        assert_eq!(rows.len(), 3);
        for (task, expected) in found.probabilities.iter() {
            let predicted = rows.iter().flat_map(|row| &row.tasks[task].probabilities).map(|(_, p)| *p);
            let most = predicted.zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most < 1e-6, "{views:?} {task}: differs by {most}");
        }
        evaluated.push(found.probabilities);
    }
    assert_ne!(evaluated[0], evaluated[1]);
    assert_eq!(TestTimeAugmentation::Shifts.views().len(), 10);
}
