//! The whole plan, on a tiny backbone: against a naive `f64` network, finite differences of it, and itself.

mod common;

use std::sync::Arc;

use common::{Direct, assert_close, error, noise, wide};
use ff_kernels::cpu::plan::Plan;
use ff_kernels::network::{Config, ConvNorm, EPS, Layout, Mode, NormSlot, Stage};
use ff_kernels::{Level, MapShape, ThreadPool};

fn tiny() -> Config {
    let stage = |width, depth| Stage { width, depth };
    Config { stem_channels: 16, stages: vec![stage(16, 2), stage(32, 2), stage(48, 1)] }
}

/// A backbone whose first stage also needs a branch, and a small map that shrinks to one pixel.
fn odd() -> Config {
    let stage = |width, depth| Stage { width, depth };
    Config { stem_channels: 16, stages: vec![stage(32, 1), stage(16, 1), stage(16, 1), stage(32, 2)] }
}

struct Case {
    config: Config,
    batch: usize,
    size: [usize; 2],
    params: Vec<f32>,
    running: Vec<f32>,
    images: Vec<f32>,
    grad: Vec<f32>,
}

impl Case {
    fn new(config: Config, batch: usize, size: [usize; 2]) -> Self {
        let layout = Layout::new(&config);
        let mut params = noise(layout.parameters_len(), 1);
        for parameter in &layout.parameters {
            let len: usize = parameter.shape.iter().product();
            let values = &mut params[parameter.offset..parameter.offset + len];
            if parameter.shape.len() == 4 {
                let fan_in = len / parameter.shape[0];
                values.iter_mut().for_each(|w| *w *= (6.0 / fan_in as f32).sqrt());
            } else if parameter.name.ends_with("weight") {
                values.iter_mut().for_each(|w| *w = 1.0 + 0.3 * *w);
            } else {
                values.iter_mut().for_each(|w| *w *= 0.3);
            }
        }
        let mut running = noise(layout.statistics_len(), 2);
        for statistic in layout.statistics.iter().filter(|s| s.name.ends_with("var")) {
            let range = statistic.offset..statistic.offset + statistic.shape[0];
            running[range].iter_mut().for_each(|v| *v = 1.0 + 0.5 * *v);
        }
        let images = noise(batch * 3 * size[0] * size[1], 3);
        let grad = noise(batch * config.embedding_len(), 4);
        Self { config, batch, size, params, running, images, grad }
    }

    fn plan(&self, pool: ThreadPool, mode: Mode) -> Plan {
        Plan::<f32>::new(&self.config, self.batch, self.size[0], self.size[1], Arc::new(pool), mode)
    }

    fn embedding(&self) -> Vec<f32> {
        vec![f32::NAN; self.grad.len()]
    }

    /// Embedding, running statistics and gradients of one training step.
    fn step(&self, pool: ThreadPool) -> [Vec<f32>; 3] {
        let mut plan = self.plan(pool, Mode::Train);
        let (mut running, mut embedding) = (self.running.clone(), self.embedding());
        let mut grads = vec![f32::NAN; self.params.len()];
        plan.forward_train(&self.params, &mut running, &self.images, &mut embedding);
        plan.backward(&self.params, &self.grad, &mut grads);
        [embedding, running, grads]
    }

    fn eval(&self, pool: ThreadPool) -> Vec<f32> {
        let mut plan = self.plan(pool, Mode::Infer);
        let mut embedding = self.embedding();
        plan.forward_eval(&self.params, &self.running, &self.images, &mut embedding);
        embedding
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Statistics {
    Batch,
    Running,
}

/// The network in `f64`, as one reads it in the paper. Running statistics are moved in `Statistics::Batch`.
fn reference(case: &Case, params: &[f64], running: &mut [f64], statistics: Statistics) -> Vec<f64> {
    let layout = Layout::new(&case.config);
    let [height, width] = case.size;
    let input = MapShape { batch: case.batch, height, width, channels: 3 };
    let mut x = vec![0.0; input.len()];
    for (i, &value) in case.images.iter().enumerate() {
        let (plane, pixel) = (i / (height * width), i % (height * width));
        x[(plane / 3 * height * width + pixel) * 3 + plane % 3] = f64::from(value);
    }
    let mut bn = |x: &mut [f64], slot: &NormSlot| {
        let c = slot.channels;
        let (gamma, beta) = (slot.offset, slot.offset + c);
        let (mean_at, var_at) = (slot.running, slot.running + c);
        for ch in 0..c {
            let n = (x.len() / c) as f64;
            let (mut mean, mut var) = (running[mean_at + ch], running[var_at + ch]);
            if statistics == Statistics::Batch {
                mean = x.iter().skip(ch).step_by(c).sum::<f64>() / n;
                var = x.iter().skip(ch).step_by(c).map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                running[mean_at + ch] += 0.1 * (mean - running[mean_at + ch]);
                running[var_at + ch] += 0.1 * (var * n / (n - 1.0).max(1.0) - running[var_at + ch]);
            }
            let scale = params[gamma + ch] / (var + EPS).sqrt();
            x.iter_mut().skip(ch).step_by(c).for_each(|v| *v = (*v - mean) * scale + params[beta + ch]);
        }
    };
    let relu = |x: &mut [f64]| x.iter_mut().for_each(|x| *x = x.max(0.0));
    let stem = Direct { input, outputs: case.config.stem_channels, kernel: 7, stride: 2 };
    let mut y = stem.forward(&x, &params[layout.stem.conv.range()]);
    bn(&mut y, &layout.stem.norm);
    relu(&mut y);
    let mut shape = stem.output();
    (x, shape) = max_pool(&y, shape);
    for block in &layout.blocks {
        let first = Direct { input: shape, outputs: block.outputs(), kernel: 3, stride: block.stride() };
        let mut y = first.forward(&x, &params[block.first.conv.range()]);
        bn(&mut y, &block.first.norm);
        relu(&mut y);
        let second = Direct { input: first.output(), outputs: block.outputs(), kernel: 3, stride: 1 };
        let mut y = second.forward(&y, &params[block.second.conv.range()]);
        bn(&mut y, &block.second.norm);
        if let Some(ConvNorm { conv, norm }) = &block.downsample {
            let branch = Direct { kernel: 1, ..first };
            x = branch.forward(&x, &params[conv.range()]);
            bn(&mut x, norm);
        }
        y.iter_mut().zip(&x).for_each(|(y, x)| *y += x);
        relu(&mut y);
        (x, shape) = (y, second.output());
    }
    let pixels = shape.height * shape.width;
    (0..shape.batch * shape.channels)
        .map(|i| {
            let (b, c) = (i / shape.channels, i % shape.channels);
            (0..pixels).map(|p| x[(b * pixels + p) * shape.channels + c]).sum::<f64>() / pixels as f64
        })
        .collect()
}

fn max_pool(x: &[f64], i: MapShape) -> (Vec<f64>, MapShape) {
    let o = MapShape { height: (i.height - 1) / 2 + 1, width: (i.width - 1) / 2 + 1, ..i };
    let mut y = vec![f64::NEG_INFINITY; o.len()];
    for (at, y) in y.iter_mut().enumerate() {
        let (c, pixel) = (at % o.channels, at / o.channels);
        let (ox, oy, b) = (pixel % o.width, pixel / o.width % o.height, pixel / o.width / o.height);
        for iy in (2 * oy).saturating_sub(1)..(2 * oy + 2).min(i.height) {
            for ix in (2 * ox).saturating_sub(1)..(2 * ox + 2).min(i.width) {
                *y = y.max(x[((b * i.height + iy) * i.width + ix) * i.channels + c]);
            }
        }
    }
    (y, o)
}

fn cases() -> Vec<Case> {
    vec![Case::new(tiny(), 3, [48, 40]), Case::new(odd(), 2, [33, 47])]
}

#[test]
fn forward_equals_reference() {
    for case in cases() {
        let params = wide(&case.params);
        let mut running = wide(&case.running);
        let eval = reference(&case, &params, &mut running.clone(), Statistics::Running);
        let train = reference(&case, &params, &mut running, Statistics::Batch);
        for level in Level::available() {
            for threads in [1, 2, 3] {
                let pool = || ThreadPool::with_level(threads, level);
                assert_close("eval embedding", &case.eval(pool()), &eval, 1e-4);
                let [embedding, statistics, _] = case.step(pool());
                assert_close("train embedding", &embedding, &train, 2e-4);
                assert_close("running statistics", &statistics, &running, 1e-5);
            }
        }
    }
}

/// Central differences of the `f64` network in random directions of every parameter tensor.
#[test]
fn backward_equals_finite_differences() {
    const STEP: f64 = 1e-6;
    for case in cases() {
        let layout = Layout::new(&case.config);
        let params = wide(&case.params);
        let loss = |params: &[f64]| -> f64 {
            let embedding = reference(&case, params, &mut wide(&case.running), Statistics::Batch);
            embedding.iter().zip(&case.grad).map(|(e, g)| e * f64::from(*g)).sum()
        };
        let [_, _, grads] = case.step(ThreadPool::new(2));
        for parameter in &layout.parameters {
            let len: usize = parameter.shape.iter().product();
            let range = parameter.offset..parameter.offset + len;
            let direction = wide(&noise(len, parameter.offset as u64 + 5));
            let at = |step: f64| {
                let mut moved = params.clone();
                moved[range.clone()].iter_mut().zip(&direction).for_each(|(p, d)| *p += step * d);
                loss(&moved)
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let gradient = &grads[range.clone()];
            let found: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let off = (found - expected).abs() / norm.max(1e-3);
            assert!(off < 2e-3, "{}: {found} not {expected}, norm {norm}", parameter.name);
        }
    }
}

/// Few enough steps for Miri and sanitizers: `cargo xtask sanitize`.
#[test]
fn a_small_network_equals_reference() {
    let stage = |width, depth| Stage { width, depth };
    let config = Config { stem_channels: 16, stages: vec![stage(16, 1), stage(32, 1)] };
    let case = Case::new(config, 1, [32, 32]);
    let (params, mut running) = (wide(&case.params), wide(&case.running));
    let eval = reference(&case, &params, &mut running.clone(), Statistics::Running);
    let train = reference(&case, &params, &mut running, Statistics::Batch);
    for level in Level::available() {
        assert_close("eval", &case.eval(ThreadPool::with_level(2, level)), &eval, 1e-4);
        let [embedding, _, grads] = case.step(ThreadPool::with_level(2, level));
        assert_close("train", &embedding, &train, 2e-4);
        assert!(grads.iter().all(|g| g.is_finite()));
    }
}

/// Ten steps on fresh pools, with other work beside them, at every level and several thread counts.
#[test]
fn ten_repeats_give_the_same_bytes_at_every_thread_count() {
    let case = &cases()[1];
    let bytes =
        |results: &[Vec<f32>; 3]| -> Vec<u32> { results.iter().flatten().map(|x| x.to_bits()).collect() };
    for level in Level::available() {
        for threads in [1, 2, 3, 5, 8] {
            let first = bytes(&case.step(ThreadPool::with_level(threads, level)));
            let eval = case.eval(ThreadPool::with_level(threads, level));
            std::thread::scope(|scope| {
                // A neighbour on the same cores, so that threads come in another order each time.
                scope.spawn(|| case.eval(ThreadPool::with_level(2, level)));
                for repeat in 1..10 {
                    let again = bytes(&case.step(ThreadPool::with_level(threads, level)));
                    assert!(first == again, "{level:?}, {threads} threads: repeat {repeat} differs");
                    let again = case.eval(ThreadPool::with_level(threads, level));
                    assert!(eval == again, "{level:?}, {threads} threads: prediction {repeat} differs");
                }
            });
        }
    }
}

#[test]
fn runs_are_bit_identical() {
    for case in cases() {
        for threads in [1, 2] {
            let first = case.step(ThreadPool::new(threads));
            let mut plan = case.plan(ThreadPool::new(threads), Mode::Train);
            for _ in 0..3 {
                let (mut running, mut embedding) = (case.running.clone(), case.embedding());
                let mut grads = vec![f32::NAN; case.params.len()];
                plan.forward_train(&case.params, &mut running, &case.images, &mut embedding);
                plan.backward(&case.params, &case.grad, &mut grads);
                assert!(first == [embedding, running, grads], "{threads} threads");
            }
        }
    }
}

/// What a part holds when it is given away is what the whole gradient has there in the end.
#[test]
fn gradients_go_out_in_parts_that_are_final() {
    for case in cases() {
        let [_, _, whole] = case.step(ThreadPool::new(2));
        let mut plan = case.plan(ThreadPool::new(2), Mode::Train);
        let (mut running, mut embedding) = (case.running.clone(), case.embedding());
        let mut grads = vec![f32::NAN; case.params.len()];
        plan.forward_train(&case.params, &mut running, &case.images, &mut embedding);
        let (mut begins, mut end) = (Vec::new(), whole.len());
        plan.backward_in_parts(&case.params, &case.grad, &mut grads, &mut |part| {
            end -= part.len();
            begins.push(end);
            assert!(*part == whole[end..end + part.len()], "{begins:?}");
        });
        let stages = case.config.stages.len();
        assert_eq!((begins.len(), begins), (stages, Layout::new(&case.config).part_begins()));
    }
}

#[test]
fn levels_and_thread_counts_agree() {
    let case = &cases()[0];
    let [embedding, _, grads] = case.step(ThreadPool::with_level(1, Level::Portable));
    for level in Level::available() {
        for threads in [1, 2, 4] {
            let [e, _, g] = case.step(ThreadPool::with_level(threads, level));
            assert!(error(&e, &wide(&embedding)) < 1e-4);
            assert!(error(&g, &wide(&grads)) < 1e-3);
        }
    }
}

#[test]
fn fewer_images_than_planned_for() {
    let case = Case::new(tiny(), 4, [40, 32]);
    let all = case.eval(ThreadPool::new(2));
    let mut plan = case.plan(ThreadPool::new(2), Mode::Infer);
    for n in [3, 4, 1] {
        let mut embedding = vec![f32::NAN; n * 48];
        plan.forward_eval(&case.params, &case.running, &case.images[..n * 3 * 40 * 32], &mut embedding);
        assert_close("embedding", &embedding, &wide(&all[..n * 48]), 1e-4);
    }
}

#[test]
fn eval_follows_changed_weights_when_told() {
    let mut case = Case::new(tiny(), 1, [32, 32]);
    let mut plan = case.plan(ThreadPool::new(1), Mode::Infer);
    let mut embedding = case.embedding();
    plan.forward_eval(&case.params, &case.running, &case.images, &mut embedding);
    case.params.iter_mut().for_each(|p| *p *= 0.9);
    plan.invalidate_weights();
    plan.forward_eval(&case.params, &case.running, &case.images, &mut embedding);
    assert_eq!(embedding, case.eval(ThreadPool::new(1)));
}

#[test]
#[should_panic(expected = "backward needs a forward_train")]
fn backward_needs_forward() {
    let case = Case::new(tiny(), 1, [32, 32]);
    let mut plan = case.plan(ThreadPool::new(1), Mode::Train);
    plan.backward(&case.params, &case.grad, &mut vec![0.0; case.params.len()]);
}

#[test]
fn resnet34_has_torchvisions_layout() {
    let layout = Layout::new(&Config::resnet34());
    assert_eq!(layout.parameters_len(), 21_284_672);
    assert_eq!(layout.parameters.len(), 108);
    let names: Vec<&str> = layout.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names[..4], ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight"]);
    let at = names.iter().position(|name| *name == "layer2.0.downsample.0.weight").expect("a branch");
    assert_eq!(names[at - 1], "layer2.0.bn2.bias");
    assert_eq!(layout.statistics_len(), 2 * 8512);
    let above = |name: &str| layout.parameters.iter().find(|p| p.name == name).map(|p| p.blocks_above);
    assert_eq!(above("bn1.bias"), Some(16));
    assert_eq!(above("layer4.2.bn2.bias"), Some(0));
}

/// `sum(p.numel() for p in torchvision.models.resnet18().parameters())` less `fc`'s, and its names.
#[test]
fn resnet18_has_torchvisions_layout() {
    let layout = Layout::new(&Config::resnet18());
    assert_eq!(layout.parameters_len(), 11_689_512 - 513_000);
    assert_eq!(layout.parameters.len(), 60);
    assert_eq!(layout.statistics_len(), 2 * 4800);
    let names: Vec<&str> = layout.blocks.iter().map(|block| block.name.as_str()).collect();
    let expected = (1..=4).flat_map(|stage| [format!("layer{stage}.0"), format!("layer{stage}.1")]);
    assert_eq!(names, expected.collect::<Vec<_>>());
    assert_eq!(
        layout.parameters.last().map(|p| (p.name.as_str(), p.blocks_above)),
        Some(("layer4.1.bn2.bias", 0))
    );
}
