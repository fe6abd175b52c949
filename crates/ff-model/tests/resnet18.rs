//! ResNet-18 beside PyTorch: every engine's embeddings, gradients and running statistics for weights and images that
//! both sides make up alike (resnet18/make.py).

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use ff_model::layout::Role;
use ff_model::{Architecture, Compute, Engine, Parameters};

const IMAGES: (usize, usize, usize, usize) = (4, 3, 96, 64);

/// Values in [-1, 1): splitmix64 of (stream, place), as in make.py.
fn noise(stream: u64, n: usize) -> Vec<f64> {
    let value = |place: usize| {
        let mut z = ((stream << 32) + place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..n).map(value).collect()
}

fn tensor(stream: u64, shape: (usize, usize, usize, usize)) -> Tensor {
    let values = noise(stream, shape.0 * shape.1 * shape.2 * shape.3);
    let values: Vec<f32> = values.into_iter().map(|u| u as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The backbone with make.py's weights.
fn made_up() -> Parameters {
    let mut parameters = Parameters::initialise(Architecture::Resnet18, &[], 0, &Device::Cpu).unwrap();
    let entries =
        [parameters.layout(), parameters.statistics_layout()].map(|layout| layout.entries().to_vec());
    let [backbone, statistics] = entries;
    let backbone = backbone.into_iter().filter(|entry| entry.name.starts_with("backbone."));
    parameters
        .update(|values, running| {
            let both = backbone.map(|e| (e, values)).chain(statistics.into_iter().map(|e| (e, running)));
            for (stream, (entry, flat)) in both.enumerate() {
                let made: Vec<f32> = noise(stream as u64, entry.len())
                    .into_iter()
                    .map(|u| match entry.role {
                        Role::ConvWeight => u * (6.0 / (entry.len() / entry.shape[0]) as f64).sqrt(),
                        Role::NormWeight => 1.0 + 0.3 * u,
                        Role::RunningVar => 1.0 + 0.5 * u,
                        _ => 0.3 * u,
                    })
                    .map(|value| value as f32)
                    .collect();
                flat.slice_set(&Tensor::new(made, &Device::Cpu)?, 0, entry.offset)?;
            }
            Ok::<_, candle_core::Error>(())
        })
        .unwrap();
    parameters
}

/// `|found - expected| / |expected|`
fn error(found: &Tensor, expected: &Tensor) -> f32 {
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    norm(&(found - expected).unwrap()) / norm(expected)
}

#[test]
fn every_engine_computes_what_pytorch_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resnet18/golden.safetensors");
    let golden: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let images = tensor(1000, IMAGES);
    let direction = tensor(1001, (IMAGES.0, 512, 1, 1)).flatten_from(1).unwrap();
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
    for engine in Engine::ALL {
        let mut parameters = made_up();
        let mut backbone = Compute::cpu(engine).backbone().unwrap();
        let embedding = backbone.embed((&images).into(), &parameters).unwrap();
        let off = error(&embedding, &golden["eval.embedding"]);
        println!("{engine:?}: eval embedding off by {off:.1e}");
        assert!(off < 1e-5, "{engine:?}: {off}");
        let embedding = backbone.forward_train((&images).into(), &mut parameters).unwrap();
        let off = error(&embedding, &golden["train.embedding"]);
        assert!(off < 1e-4, "{engine:?}: {off}");

        let gradient = parameters.zero_gradient().unwrap();
        backbone.backward(&direction, &parameters, &gradient).unwrap();
        let mut norms = Vec::new();
        let mut worst = (0.0, String::new());
        let layout = parameters.layout();
        for entry in layout.entries().iter().filter(|entry| entry.blocks_above.is_some()) {
            let of_this = gradient.narrow(0, entry.offset, entry.len()).unwrap();
            norms.push(norm(&of_this));
            let name = entry.name.trim_start_matches("backbone.");
            let off = error(&of_this.narrow(0, 0, 16).unwrap(), &golden[&format!("first.{name}")]);
            if off > worst.0 {
                worst = (off, name.to_owned());
            }
        }
        let off = error(&Tensor::stack(&norms, 0).unwrap(), &golden["norm"]);
        println!("{engine:?}: lengths of gradients off by {off:.1e}; first values at most by {worst:?}");
        assert!(off < 1e-3 && worst.0 < 0.02, "{engine:?}: {off}, {worst:?}");
        let names = parameters.statistics_layout().entries().iter().map(|entry| &entry.name);
        let running: Vec<Tensor> = names.map(|name| norm(&parameters.get(name).unwrap())).collect();
        let off = error(&Tensor::stack(&running, 0).unwrap(), &golden["running"]);
        assert!(off < 1e-5, "{engine:?}: running statistics off by {off}");
    }
}
