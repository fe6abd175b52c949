//! bf16 on the CPU beside f32, on faces of the sample and weights of ImageNet. Machines without AVX-512 BF16 have
//! nothing to compare; ff-kernels' own tests emulate it there. It takes half a minute.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
use ff_data::{Batch, Dataset, Loader, LoaderConfig, Mode};
use ff_model::{Dropout, FaceModel, Precision};
use ff_train::loss::multi_task;
use ff_train::optim::{Optimizer, OptimizerConfig, optimizer_step};
use ff_train::records::StepRecord;
use ff_train::setup::build_model;
use ff_train::{Config, ConfigBuilder, Observer, Preset, Start, train};
use fs_err as fs;

/// ImageNet weights: 1.8e-2 was seen, and 1.4e-2 with direct convolutions only.
const EMBEDDING: f64 = 2.2e-2;
/// Ten steps of AdamW.
const LOSSES: f64 = 0.015;

fn is_here() -> bool {
    Precision::Bf16.runs_on_this_cpu()
}

fn config(precision: &str) -> ConfigBuilder {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample");
    ConfigBuilder::new(Preset::Sample, Path::new(""))
        .set("data.splits", Some(sample.join("splits")))
        .set("data.images", Some(sample.join("images")))
        .set("data.workers", Some(2))
        .set("train.precision", Some(precision))
}

/// The first faces of the sample, and a model with the bundled weights.
fn subject(precision: &str, n: usize, image_size: usize) -> (Batch, FaceModel) {
    let config = config(precision).set("data.image_size", Some(image_size)).resolve().unwrap();
    let splits = config.read_splits().unwrap();
    let dataset = Dataset::open(splits.train, &config.data.images, &splits.encoders, Mode::Eval).unwrap();
    let dataset = dataset.with_image_size(image_size).unwrap();
    let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::eval(n).with_prefetch(1)).unwrap();
    let batch = loader.epoch(0, 0).next().unwrap().unwrap();
    let mut model = build_model(&config, &splits.encoders).unwrap();
    ff_train::weights::initialise(&mut model, &config.model.init).unwrap();
    (batch, model)
}

fn planes(batch: &Batch, model: &FaceModel) -> Tensor {
    Tensor::from_slice(batch.planes(), &batch.shape, model.device()).unwrap()
}

#[test]
fn embeddings_are_within_rounding_of_f32s() {
    if !is_here() {
        return;
    }
    let [f32, bf16] = ["f32", "bf16"].map(|precision| {
        let (batch, mut model) = subject(precision, 24, 224);
        let images = planes(&batch, &model);
        model.embed(&images).unwrap().to_vec2::<f32>().unwrap()
    });
    let off = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
        let difference = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
        (difference / square(&mut a.iter().map(|&a| f64::from(a)))).sqrt()
    };
    let mean = f32.iter().zip(&bf16).map(off).sum::<f64>() / 24.0;
    assert!(mean > 1e-4, "{mean:e}: bf16 was not computed with");
    assert!(mean <= EMBEDDING, "{mean:e}, allowed {EMBEDDING:e}");
}

#[test]
fn ten_steps_lose_as_much_as_f32s() {
    if !is_here() {
        return;
    }
    let [f32, bf16] = ["f32", "bf16"].map(|precision| {
        let (batch, mut model) = subject(precision, 16, 128);
        let images = planes(&batch, &model);
        let targets: Vec<Tensor> =
            batch.targets.values().map(|ids| Tensor::new(ids.as_slice(), model.device()).unwrap()).collect();
        let mut optimizer = Optimizer::for_model(OptimizerConfig::default(), &model).unwrap();
        let mut losses = Vec::new();
        for _ in 0..10 {
            let pass = model.forward_train(&images, Dropout { rate: 0.0, seed: 0, step: 1 }).unwrap();
            let loss = multi_task(&pass.logits, &targets).unwrap().total;
            losses.push(loss.to_scalar::<f32>().unwrap());
            model.backward(&pass, &loss).unwrap();
            optimizer_step(&mut model, &mut optimizer).unwrap();
        }
        losses
    });
    assert!(f32[9] < 0.9 * f32[0], "f32 learns nothing: {f32:?}");
    for (step, (f32, bf16)) in f32.iter().zip(&bf16).enumerate() {
        let apart = f64::from((f32 - bf16).abs() / f32);
        assert!(apart <= LOSSES, "step {step}: {bf16} beside {f32}, {:.2} % apart", 100.0 * apart);
    }
}

/// Sets the flag after a step.
struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, step: &StepRecord) {
        self.1.store(step.step >= self.0, Ordering::Relaxed);
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str| -> Config {
        config("bf16")
            .set("data.image_size", Some(64))
            .set("data.batch_size", Some(16))
            .set("train.epochs", Some(1))
            .set("train.max_steps", Some(6))
            .set("run.dir", Some(dir.path().join(name)))
            .resolve()
            .unwrap()
    };
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    train(&run("whole"), Start::Fresh, &mut (), &go).unwrap();
    train(&run("stopped"), Start::Fresh, &mut StopAfter(3, &stop), &stop).unwrap();
    train(&run("stopped"), Start::Resume("last".to_owned()), &mut (), &go).unwrap();
    for name in ["model.safetensors", "state.safetensors"] {
        let path = |run: &str| -> PathBuf { dir.path().join(run).join("checkpoints/last").join(name) };
        assert!(fs::read(path("whole")).unwrap() == fs::read(path("stopped")).unwrap(), "{name} differs");
    }
    let config = fs::read_to_string(dir.path().join("whole/config.toml")).unwrap();
    assert!(config.contains("precision = \"bf16\""), "{config}");
}
