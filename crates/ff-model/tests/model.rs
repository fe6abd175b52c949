//! The network as a whole: names, sizes, modes, seeds.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use candle_core::{DType, Device, Tensor};
use ff_model::summary::summarise;
use ff_model::{BackboneMode, Compute, Dropout, Engine, FaceModel, HeadSpec, ParameterLayout, Precision};

fn heads() -> Vec<HeadSpec> {
    [("age", 9), ("gender", 2), ("race", 7)].map(|(task, classes)| HeadSpec::new(task, classes)).to_vec()
}

fn model(engine: Engine, seed: u64) -> FaceModel {
    FaceModel::new(&heads(), &Compute::cpu(engine), seed).unwrap()
}

fn images(n: usize, h: usize, w: usize) -> Tensor {
    let values: Vec<f32> = (0..n * 3 * h * w).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_vec(values, (n, 3, h, w), &Device::Cpu).unwrap()
}

const NO_DROPOUT: Dropout = Dropout { rate: 0.0, seed: 0, step: 1 };

#[test]
fn layout_has_torchvisions_names_and_count() {
    let layout = ParameterLayout::parameters(&heads());
    assert_eq!(layout.len(), 21_556_562);
    let names: Vec<_> = layout.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names.len(), 108 + 8);
    assert_eq!(
        names[..4],
        ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight"].map(|n| format!("backbone.{n}"))
    );
    let downsample = layout.get("backbone.layer2.0.downsample.0.weight").unwrap();
    assert_eq!(downsample.shape, [128, 64, 1, 1]);
    assert_eq!(names[names.len() - 2..], ["race_head.weight", "race_head.bias"]);
    let gapless = layout.entries().windows(2).all(|pair| pair[0].range().end == pair[1].offset);
    assert!(gapless);
}

#[test]
fn summary_agrees_with_the_layout_and_torchvisions_count_of_multiply_adds() {
    let summary = summarise(&heads(), BackboneMode::Trainable, [1, 224, 224]).unwrap();
    assert_eq!(summary.total_params, ParameterLayout::parameters(&heads()).len());
    // torchvision states 3.66 GMAC for resnet34 with its classifier of 512,000; ours has heads of 271,360 instead.
    assert_eq!(summary.mult_adds, 3_663_249_408 + 512 * (512 + 9 + 2 + 7));
}

#[test]
fn any_size_of_at_least_32_goes_through_and_others_are_refused() {
    for engine in Engine::ALL {
        let mut model = model(engine, 0);
        for (n, h, w) in [(2, 32, 32), (1, 33, 47)] {
            let prediction = model.predict(&images(n, h, w)).unwrap();
            assert_eq!(prediction.embedding.dims(), [n, 512]);
            assert_eq!(prediction.logits[2].dims(), [n, 7]);
        }
        for bad in [images(1, 31, 64), Tensor::zeros((1, 1, 64, 64), DType::F32, &Device::Cpu).unwrap()] {
            let message = model.predict(&bad).unwrap_err().to_string();
            assert!(message.contains("expected images of shape (B, 3, H, W)"), "{message}");
        }
    }
}

#[test]
fn seeds_decide_the_initial_values() {
    let flat = |seed| model(Engine::default(), seed).parameters().values().to_vec1::<f32>().unwrap();
    assert_eq!(flat(1), flat(1));
    assert_ne!(flat(1), flat(2));
    // Kaiming, fan-out: the variance of layer1.0.conv1 is 2 / (9 * 64).
    let model = model(Engine::default(), 1);
    let weight = model.parameters().get("backbone.layer1.0.conv1.weight").unwrap().flatten_all().unwrap();
    let variance = weight.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((variance * 288.0 - 1.0).abs() < 0.03, "{variance}");
}

#[test]
fn dropout_depends_on_seed_and_step_and_keeps_the_mean() {
    let mut model = model(Engine::default(), 0);
    let images = images(4, 32, 32);
    let mut logits = |rate, seed, step| {
        let pass = model.forward_train(&images, Dropout { rate, seed, step }).unwrap();
        pass.logits[0].to_vec2::<f32>().unwrap()
    };
    assert_eq!(logits(0.3, 1, 1), logits(0.3, 1, 1));
    assert_ne!(logits(0.3, 1, 1), logits(0.3, 1, 2));
    assert_ne!(logits(0.3, 1, 1), logits(0.3, 2, 1));
    assert_eq!(logits(0.0, 1, 1), logits(0.0, 2, 2));
}

#[test]
fn a_frozen_backbone_neither_learns_nor_moves() {
    for engine in Engine::ALL {
        let mut model = model(engine, 0);
        model.set_backbone_mode(BackboneMode::Frozen);
        assert_eq!(model.trainable_parameters(), 21_556_562 - 21_284_672);
        let images = images(2, 32, 32);
        let statistics = model.parameters().statistics().to_vec1::<f32>().unwrap();
        let pass = model.forward_train(&images, NO_DROPOUT).unwrap();
        let embedding = model.embed(&images).unwrap();
        assert_eq!(pass.embedding.to_vec2::<f32>().unwrap(), embedding.to_vec2::<f32>().unwrap());
        let loss = pass.logits[1].sqr().unwrap().sum_all().unwrap();
        model.backward(&pass, &loss).unwrap();
        let gradient = model.gradient().to_vec1::<f32>().unwrap();
        let backbone = model.parameters().layout().backbone();
        assert!(gradient[backbone.clone()].iter().all(|&g| g == 0.0));
        assert!(gradient[backbone.end..].iter().any(|&g| g != 0.0));
        assert_eq!(model.parameters().statistics().to_vec1::<f32>().unwrap(), statistics);
    }
}

#[test]
fn backward_needs_a_forward_pass_of_its_own() {
    for engine in Engine::ALL {
        let mut model = model(engine, 0);
        let pass = model.forward_train(&images(2, 32, 32), NO_DROPOUT).unwrap();
        let loss = pass.logits[0].sum_all().unwrap();
        model.backward(&pass, &loss).unwrap();
        let message = model.backward(&pass, &loss).unwrap_err().to_string();
        assert!(message.contains("needs a training forward pass"), "{message}");
    }
}

#[test]
fn the_cpu_computes_in_f32_only() {
    for precision in [Precision::Bf16, Precision::F32 { tf32: true }] {
        let compute = Compute { precision, ..Compute::cpu(Engine::Fast) };
        let message = FaceModel::new(&heads(), &compute, 0).err().unwrap().to_string();
        let expected = format!("precision {precision} needs --device cuda with --engine fast");
        assert!(message.starts_with(&expected), "{message}");
    }
}
