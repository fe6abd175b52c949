//! The network as a whole: names, sizes, modes, seeds.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use candle_core::{DType, Device, Tensor};
use ff_model::summary::summarise;
use ff_model::{
    Architecture, BackboneMode, Compute, Dropout, Engine, FaceModel, HeadSpec, ParameterLayout, Parameters,
    Precision,
};

fn heads() -> Vec<HeadSpec> {
    [("age", 9), ("gender", 2), ("race", 7)].map(|(task, classes)| HeadSpec::new(task, classes)).to_vec()
}

fn model(engine: Engine, seed: u64) -> FaceModel {
    FaceModel::new(Architecture::Resnet34, &heads(), &Compute::cpu(engine), seed).unwrap()
}

fn images(n: usize, h: usize, w: usize) -> Tensor {
    let values: Vec<f32> = (0..n * 3 * h * w).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_vec(values, (n, 3, h, w), &Device::Cpu).unwrap()
}

const NO_DROPOUT: Dropout = Dropout { rate: 0.0, seed: 0, step: 1 };

#[test]
fn layout_has_torchvisions_names_and_count() {
    let layout = ParameterLayout::parameters(Architecture::Resnet34, &heads());
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
    let summary =
        summarise(Architecture::Resnet34, &heads(), BackboneMode::Trainable, [1, 224, 224]).unwrap();
    assert_eq!(summary.total_params, ParameterLayout::parameters(Architecture::Resnet34, &heads()).len());
    // torchvision states 3.66 GMAC for resnet34 with its classifier of 512,000; ours has heads of 271,360 instead.
    assert_eq!(summary.mult_adds, 3_663_249_408 + 512 * (512 + 9 + 2 + 7));
    // And 1.81 for resnet18.
    let summary =
        summarise(Architecture::Resnet18, &heads(), BackboneMode::Trainable, [1, 224, 224]).unwrap();
    assert_eq!(summary.total_params, ParameterLayout::parameters(Architecture::Resnet18, &heads()).len());
    assert_eq!(summary.mult_adds, 1_813_561_344 + 512 * (512 + 9 + 2 + 7));
    assert_eq!((summary.layers[0].kind.as_str(), &*summary.layers[0].output), ("ResNet-18", &[1, 512][..]));
}

/// Larger and smaller images than the usual 224 x 224, wide ones too. Training at the smaller ones: the reference's
/// backward pass takes its time.
#[test]
fn engines_agree_at_every_size_of_images() {
    let relative = |found: &Tensor, expected: &Tensor| {
        let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        norm(&(found - expected).unwrap()) / norm(expected)
    };
    for (architecture, n, h, w) in [
        (Architecture::Resnet34, 2, 64, 64),
        (Architecture::Resnet18, 1, 160, 160),
        (Architecture::Resnet18, 1, 96, 352),
        (Architecture::Resnet34, 1, 512, 512),
    ] {
        let images = images(n, h, w);
        let [mut fast, mut reference] = Engine::ALL
            .map(|engine| FaceModel::new(architecture, &heads(), &Compute::cpu(engine), 1).unwrap());
        let off = relative(&fast.embed(&images).unwrap(), &reference.embed(&images).unwrap());
        assert!(off < 1e-4, "{architecture} {h}x{w}, evaluation: {off}");
        if h * w > 160 * 160 {
            continue;
        }
        let step = |model: &mut FaceModel| {
            let pass = model.forward_train(&images, NO_DROPOUT).unwrap();
            let loss = pass.logits[0].sqr().unwrap().sum_all().unwrap();
            model.backward(&pass, &loss).unwrap();
            pass.embedding.as_tensor().clone()
        };
        let off = relative(&step(&mut fast), &step(&mut reference));
        assert!(off < 1e-3, "{architecture} {h}x{w}, training: {off}");
        let off = relative(fast.gradient(), reference.gradient());
        assert!(off < 0.02, "{architecture} {h}x{w}, gradient: {off}");
    }
}

#[test]
fn an_execution_follows_the_parameters_to_another_architecture() {
    let images = images(2, 64, 64);
    for engine in Engine::ALL {
        let mut backbone = Compute::cpu(engine).backbone().unwrap();
        for architecture in [Architecture::Resnet34, Architecture::Resnet18, Architecture::Resnet34] {
            let mut parameters = Parameters::initialise(architecture, &[], 0, &Device::Cpu).unwrap();
            let expected =
                Compute::cpu(engine).backbone().unwrap().embed((&images).into(), &parameters).unwrap();
            let found = backbone.embed((&images).into(), &parameters).unwrap();
            assert_eq!(found.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
            backbone.forward_train((&images).into(), &mut parameters).unwrap();
        }
    }
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

/// Also where the backbone has no part in it.
#[test]
fn parts_of_a_gradient_are_those_of_the_whole() {
    for (engine, mode, n) in [
        (Engine::Fast, BackboneMode::Trainable, 5),
        (Engine::Reference, BackboneMode::Trainable, 2),
        (Engine::Fast, BackboneMode::Frozen, 1),
    ] {
        let [mut whole, mut parts] = [model(engine, 0), model(engine, 0)];
        let passes = [&mut whole, &mut parts].map(|model| {
            model.set_backbone_mode(mode);
            let pass = model.forward_train(&images(2, 32, 32), NO_DROPOUT).unwrap();
            let loss = pass.logits[1].sqr().unwrap().sum_all().unwrap();
            (pass, loss)
        });
        whole.backward(&passes[0].0, &passes[0].1).unwrap();
        let expected = whole.gradient().to_vec1::<f32>().unwrap();
        let mut gradient = vec![f32::NAN; expected.len()];
        let (mut begins, mut end) = (Vec::new(), expected.len());
        let mut done = |part: &mut [f32]| {
            end -= part.len();
            begins.push(end);
            assert!(*part == expected[end..end + part.len()], "{engine:?} {begins:?}");
        };
        parts.backward_in_parts(&passes[1].0, &passes[1].1, &mut gradient, &mut done).unwrap();
        assert_eq!((begins.len(), begins), (n, parts.part_begins()));
        assert_eq!(gradient, expected);
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
fn a_precision_that_nothing_here_computes_with_is_refused() {
    let bf16 = Precision::Bf16.runs_on_this_cpu();
    let [bf16_needs, tf32_needs] = [" or a CPU with AVX-512 BF16", ""];
    for (engine, precision, needs, runs) in [
        (Engine::Fast, Precision::Bf16, bf16_needs, bf16),
        (Engine::Reference, Precision::Bf16, bf16_needs, false),
        (Engine::Fast, Precision::F32 { tf32: true }, tf32_needs, false),
    ] {
        let compute = Compute { precision, ..Compute::cpu(engine) };
        let model = FaceModel::new(Architecture::Resnet34, &heads(), &compute, 0);
        assert_eq!(model.is_ok(), runs, "{precision} with {}", engine.name());
        let Err(error) = model else { continue };
        let expected =
            format!("precision {precision} needs engine fast and device cuda{needs}, found the CPU");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
