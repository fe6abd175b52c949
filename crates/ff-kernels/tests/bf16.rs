//! Kernels on bfloat16 maps: beside exact sums of the same rounded values, and every instruction set beside the
//! portable one, whose arithmetic is f32's on rounded values.

mod common;

use std::sync::Arc;

use common::{Direct, noise, wide};
use ff_kernels::cpu::conv::indirect::{Branch, IndirectConv};
use ff_kernels::cpu::conv::stem::Stem;
use ff_kernels::cpu::conv::winograd::{Conv3x3, Filters};
use ff_kernels::cpu::fuse::store::{Accumulate, Activation};
use ff_kernels::cpu::norm::Coefficients;
use ff_kernels::cpu::plan::Plan;
use ff_kernels::cpu::pool::global_average_backward;
use ff_kernels::network::{Config, Layout, Mode, Stage};
use ff_kernels::{
    Bf16, Buffer, ChannelSums, Element, Epilogue, FusedLoad, Gradient, Level, MapShape, Mask, Moments,
    ThreadPool,
};
use proptest::prelude::*;

/// Largest error of values rounded once on store: half a unit in the last of 8 bits.
const ROUNDED: f64 = 1.0 / 256.0;
/// Winograd on 3/4 and 3/2, operands rounded after the transform: root mean square over that of the output. The whole
/// network comes to 1.8e-2.
const WINOGRAD: f64 = 2e-2;
/// Between instruction sets: a sum in another order flips the rounding of a few values.
const LEVELS: f64 = 2e-3;

fn rounded(values: &[f32]) -> Vec<Bf16> {
    values.iter().map(|&x| Bf16::from_f32(x)).collect()
}

fn widened(values: &[Bf16]) -> Vec<f32> {
    values.iter().map(|x| x.to_f32()).collect()
}

/// Root mean square of the difference over that of what is expected.
fn off(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = squares(&mut found.iter().zip(expected).map(|(f, e)| f64::from(*f) - e));
    (difference / squares(&mut expected.iter().copied()).max(1e-30)).sqrt()
}

#[track_caller]
fn near(what: &str, found: &[f32], expected: &[f64], allowed: f64) {
    let off = off(found, expected);
    assert!(off <= allowed, "{what}: {off:e} of the root mean square, allowed {allowed:e}");
}

fn pools() -> Vec<ThreadPool> {
    Level::available().flat_map(|level| [1, 3].map(|n| ThreadPool::with_level(n, level))).collect()
}

fn shapes() -> impl Strategy<Value = (MapShape, usize, u64)> {
    (1usize..4, 1usize..13, 1usize..13, 1usize..6, 1usize..6, any::<u64>()).prop_map(
        |(batch, height, width, c, k, seed)| {
            (MapShape { batch, height, width, channels: 16 * c }, 16 * k, seed)
        },
    )
}

#[test]
fn rounding_is_to_nearest_even() {
    for (x, bits) in [
        (1.0, 0x3F80),
        (1.0 + 1.0 / 256.0, 0x3F80),
        (1.0 + 3.0 / 256.0, 0x3F82),
        (1.0 + 1.01 / 256.0, 0x3F81),
        (-0.0, 0x8000),
        (f32::MAX, 0x7F80),
        (f32::NEG_INFINITY, 0xFF80),
        (1e-40, 0),
    ] {
        assert_eq!(Bf16::from_f32(x).to_bits(), bits, "{x}");
    }
    assert!(Bf16::from_f32(f32::NAN).to_f32().is_nan());
}

/// Any bits, NaN, infinities and subnormal values among them, through a kernel that only stores.
#[test]
fn every_level_rounds_to_the_same_bits() {
    let special = [f32::NAN, -f32::NAN, f32::INFINITY, 1e-40, -1e-40, -0.0, f32::MAX, f32::MIN_POSITIVE];
    let mut values = noise(4096 - special.len(), 5);
    values.iter_mut().enumerate().for_each(|(i, x)| *x *= 2f32.powi(i as i32 % 250 - 125));
    values.extend(special);
    let shape = MapShape { batch: 1, height: 1, width: 1, channels: values.len() };
    let expected: Vec<u16> = values.iter().map(|&x| Bf16::from_f32(x).to_bits()).collect();
    for pool in pools() {
        let mut out = vec![Bf16::default(); values.len()];
        global_average_backward(&pool, shape, &values, &mut out, Epilogue::Store);
        let bits: Vec<u16> = out.iter().map(|x| x.to_bits()).collect();
        assert!(bits == expected, "{:?}", pool.level());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn winograd_is_near_direct((input, outputs, seed) in shapes()) {
        let portable = winograd_case(&ThreadPool::with_level(2, Level::Portable), input, outputs, seed);
        for pool in pools() {
            let found = winograd_case(&pool, input, outputs, seed);
            for (what, found, expected) in [0, 1, 2, 3].map(|i| (i, &found[i], &portable[i])) {
                near(&format!("{:?}, result {what}", pool.level()), found, &wide(expected), LEVELS);
            }
        }
    }

    #[test]
    fn gemm_is_direct_rounded((input, outputs, seed) in shapes(), three in any::<bool>(), stride in 1usize..3) {
        let kernel = if three { 3 } else { 1 };
        for pool in pools() {
            gemm_case(&pool, input, outputs, kernel, stride, seed);
        }
    }

    #[test]
    fn the_pooled_stem_is_the_stem_pooled(
        batch in 1usize..3,
        height in 1usize..40,
        width in 1usize..60,
        k in 1usize..5,
        seed in any::<u64>(),
    ) {
        for pool in pools() {
            stem_case(&pool, batch, [height, width], 16 * k, seed, (|x: f32| x, 1e-5));
            stem_case(&pool, batch, [height, width], 16 * k, seed, (Bf16::to_f32, ROUNDED));
        }
    }
}

/// The blockings that small random shapes do not reach.
#[test]
fn large_maps() {
    let pool = ThreadPool::new(2);
    for (batch, size, c, k) in
        [(1, 57, 16, 16), (2, 30, 64, 64), (1, 21, 128, 128), (2, 9, 256, 256), (5, 6, 272, 144)]
    {
        winograd_case(&pool, MapShape { batch, height: size, width: size + 1, channels: c }, k, 7);
    }
    for (batch, size, c, k, kernel) in [(1, 57, 16, 32, 3), (3, 28, 64, 128, 3), (1, 14, 256, 512, 3)] {
        gemm_case(&pool, MapShape { batch, height: size, width: size, channels: c }, k, kernel, 2, 7);
    }
}

/// Forward with BatchNorm on the way in, inference, input and weight gradient, each beside exact sums.
fn winograd_case(pool: &ThreadPool, input: MapShape, outputs: usize, seed: u64) -> [Vec<f32>; 4] {
    let conv = Conv3x3::<Bf16>::new(input, outputs, pool.threads());
    let direct = Direct { input, outputs, kernel: 3, stride: 1 };
    let output = conv.output();
    let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
    space.fill(f32::NAN);
    let (c, k) = (input.channels, outputs);
    let x = rounded(&noise(input.len(), seed));
    let w = noise(k * c * 9, seed ^ 1);
    let (scale, shift) = (noise(c, seed ^ 2), noise(c, seed ^ 3));

    let activation = common::bn_relu(&widened(&x), &scale, &shift);
    let mut y = vec![Bf16::default(); output.len()];
    let mut sums = ChannelSums::new(k, pool.threads());
    let source = FusedLoad::BnRelu { raw: &x, scale: &scale, shift: &shift };
    let filters = Filters::Weights { weights: &w, scale: None };
    conv.forward(pool, source, filters, &mut y, Epilogue::Statistics(&mut sums), &mut space);
    let forward = widened(&y);
    near("forward", &forward, &direct.forward(&activation, &wide(&w)), WINOGRAD);
    for channel in 0..k {
        let sum: f64 = forward.iter().skip(channel).step_by(k).map(|&y| f64::from(y)).sum();
        let most: f64 = forward.iter().skip(channel).step_by(k).map(|&y| f64::from(y.abs())).sum();
        assert!((sums.total(channel).0 - sum).abs() <= ROUNDED * most, "sum of channel {channel}");
    }

    let (bias, factor) = (noise(k, seed ^ 4), noise(k, seed ^ 5));
    let residual = rounded(&noise(output.len(), seed ^ 6));
    let plain = direct.forward(&wide(&widened(&x)), &wide(&w));
    let expected: Vec<f64> = (0..output.len())
        .map(|i| {
            plain[i] * f64::from(factor[i % k]) + f64::from(bias[i % k]) + f64::from(residual[i].to_f32())
        })
        .map(|y| y.max(0.0))
        .collect();
    let mut filters = vec![Bf16::default(); conv.transformed_len().expect("bfloat16 filters are kept")];
    conv.transform_filters(pool, &w, Some(&factor), &mut filters);
    let epilogue =
        Epilogue::Inference { bias: &bias, residual: Some(&residual), activation: Activation::Relu };
    conv.forward(pool, FusedLoad::Plain(&x), Filters::Transformed(&filters), &mut y, epilogue, &mut space);
    let inference = widened(&y);
    near("inference", &inference, &expected, WINOGRAD);

    let (dy, raw) = (rounded(&noise(output.len(), seed ^ 7)), rounded(&noise(output.len(), seed ^ 8)));
    let coefficients = Coefficients {
        on_grad: noise(k, seed ^ 9),
        on_raw: noise(k, seed ^ 10),
        constant: noise(k, seed ^ 11),
    };
    let d_raw: Vec<f64> = (0..dy.len())
        .map(|i| {
            let at = |values: &[f32]| f64::from(values[i % k]);
            at(&coefficients.on_grad) * f64::from(dy[i].to_f32())
                + at(&coefficients.on_raw) * f64::from(raw[i].to_f32())
                + at(&coefficients.constant)
        })
        .collect();
    let mut dx = rounded(&noise(input.len(), seed ^ 12));
    let mut expected = direct.input_gradient(&d_raw, &wide(&w));
    for (i, e) in expected.iter_mut().enumerate() {
        *e = if activation[i] > 0.0 { *e + f64::from(dx[i].to_f32()) } else { 0.0 };
    }
    let mean = noise(c, seed ^ 13);
    let mut sums = ChannelSums::new(c, pool.threads());
    let epilogue = Epilogue::Gradient(Gradient {
        accumulate: Accumulate::Yes,
        mask: Mask::Bn { raw: &x, scale: &scale, shift: &shift },
        moments: Some(Moments { raw: &x, mean: &mean, sums: &mut sums }),
    });
    let grad_source = FusedLoad::BnBackward { grad: &dy, raw: &raw, coefficients: &coefficients };
    conv.input_gradient(pool, grad_source, &w, &mut dx, epilogue, &mut space);
    let input_gradient = widened(&dx);
    near("input gradient", &input_gradient, &expected, WINOGRAD);

    let mut dw = vec![f32::NAN; w.len()];
    conv.weight_gradient(pool, source, grad_source, &mut dw, &mut space);
    near("weight gradient", &dw, &direct.weight_gradient(&activation, &d_raw), WINOGRAD);
    [forward, inference, input_gradient, dw]
}

/// Products of rounded weights are exact, so nothing is off but the rounding on store.
fn gemm_case(pool: &ThreadPool, input: MapShape, outputs: usize, kernel: usize, stride: usize, seed: u64) {
    let conv = IndirectConv::<Bf16>::new(input, outputs, kernel, stride, pool.threads());
    let direct = Direct { input, outputs, kernel, stride };
    let output = conv.output();
    let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
    space.fill(f32::NAN);
    let (c, k) = (input.channels, outputs);
    let x = rounded(&noise(input.len(), seed));
    let w = widened(&rounded(&noise(k * c * kernel * kernel, seed ^ 1)));
    let exact = |values: &[Bf16]| wide(&widened(values));

    let mut y = vec![Bf16::default(); output.len()];
    conv.forward(pool, &x, &w, &mut y, Epilogue::Store, &mut space);
    near("forward", &widened(&y), &direct.forward(&exact(&x), &wide(&w)), ROUNDED);

    let dy = rounded(&noise(output.len(), seed ^ 2));
    let branch_w = widened(&rounded(&noise(k * c, seed ^ 3)));
    let branch_dy = rounded(&noise(output.len(), seed ^ 4));
    let mask = rounded(&noise(input.len(), seed ^ 5));
    let more = Direct { kernel: 1, ..direct }.input_gradient(&exact(&branch_dy), &wide(&branch_w));
    let mut expected = direct.input_gradient(&exact(&dy), &wide(&w));
    for i in 0..expected.len() {
        expected[i] = if mask[i].to_f32() > 0.0 { expected[i] + more[i] } else { 0.0 };
    }
    let mut dx = vec![Bf16::default(); input.len()];
    let epilogue = Epilogue::Gradient(Gradient {
        accumulate: Accumulate::No,
        mask: Mask::Activation(&mask),
        moments: None,
    });
    let branch = Some(Branch { grad_out: &branch_dy, weights: &branch_w });
    conv.input_gradient(pool, &dy, &w, branch, &mut dx, epilogue, &mut space);
    near("input gradient", &widened(&dx), &expected, ROUNDED);

    let mut dw = vec![f32::NAN; w.len()];
    conv.weight_gradient(pool, &x, FusedLoad::Plain(&dy), &mut dw, &mut space);
    near("weight gradient", &dw, &direct.weight_gradient(&exact(&x), &exact(&dy)), ROUNDED);
}

fn stem_case<E: Element>(
    pool: &ThreadPool,
    batch: usize,
    [height, width]: [usize; 2],
    outputs: usize,
    seed: u64,
    (widen, allowed): (impl Fn(E) -> f32, f64),
) {
    let stem = Stem::new(batch, height, width, outputs, pool.threads());
    let round = |values: Vec<f32>| widened(&rounded(&values));
    let images = round(noise(batch * 3 * height * width, seed));
    let weights = round(noise(outputs * 147, seed ^ 1));
    let (scale, bias) = (vec![0.5; outputs], noise(outputs, seed ^ 2));
    let input = MapShape { batch, height, width, channels: 3 };
    let mut nhwc = vec![0.0; images.len()];
    for (i, &value) in images.iter().enumerate() {
        let (plane, pixel) = (i / (height * width), i % (height * width));
        nhwc[(plane / 3 * height * width + pixel) * 3 + plane % 3] = f64::from(value);
    }
    let direct = Direct { input, outputs, kernel: 7, stride: 2 };
    let y = direct.forward(&nhwc, &wide(&weights));
    let shape = direct.output();
    let pooled = MapShape { height: (shape.height - 1) / 2 + 1, width: (shape.width - 1) / 2 + 1, ..shape };
    let expected: Vec<f64> = (0..pooled.len())
        .map(|at| {
            let (k, pixel) = (at % outputs, at / outputs);
            let (ox, oy) = (pixel % pooled.width, pixel / pooled.width % pooled.height);
            let image = pixel / pooled.width / pooled.height;
            let mut best = 0.0f64;
            for iy in (2 * oy).saturating_sub(1)..(2 * oy + 2).min(shape.height) {
                for ix in (2 * ox).saturating_sub(1)..(2 * ox + 2).min(shape.width) {
                    let y = y[((image * shape.height + iy) * shape.width + ix) * outputs + k];
                    best = best.max(0.5 * y + f64::from(bias[k]));
                }
            }
            best
        })
        .collect();
    let mut interleaved = Buffer::<E>::zeroed(stem.interleaved_len());
    let mut out = Buffer::<E>::zeroed(pooled.len());
    let mut space = Buffer::zeroed(stem.pooled_workspace_len::<E>());
    space.fill(f32::NAN);
    stem.forward_pooled(pool, &images, &mut interleaved, &weights, &scale, &bias, &mut out, &mut space);
    let found: Vec<f32> = out.iter().map(|&x| widen(x)).collect();
    near("pooled stem", &found, &expected, allowed);
}

/// A backbone of three stages, its parameters such that activations neither vanish nor explode.
struct Network {
    config: Config,
    params: Vec<f32>,
    running: Vec<f32>,
    images: Vec<f32>,
    grad: Vec<f32>,
}

const BATCH: usize = 4;
const SIZE: usize = 48;

impl Network {
    fn new() -> Self {
        let stage = |width, depth| Stage { width, depth };
        let config = Config { stem_channels: 32, stages: vec![stage(32, 2), stage(48, 2), stage(64, 1)] };
        let layout = Layout::new(&config);
        let mut params = noise(layout.parameters_len(), 1);
        for parameter in &layout.parameters {
            let len: usize = parameter.shape.iter().product();
            let values = &mut params[parameter.offset..parameter.offset + len];
            let fan_in = len / parameter.shape[0];
            match parameter.shape.len() {
                4 => values.iter_mut().for_each(|w| *w *= (6.0 / fan_in as f32).sqrt()),
                _ if parameter.name.ends_with("weight") => {
                    values.iter_mut().for_each(|w| *w = 1.0 + 0.3 * *w)
                }
                _ => values.iter_mut().for_each(|w| *w *= 0.3),
            }
        }
        let mut running = noise(layout.statistics_len(), 2);
        for statistic in layout.statistics.iter().filter(|s| s.name.ends_with("var")) {
            let range = statistic.offset..statistic.offset + statistic.shape[0];
            running[range].iter_mut().for_each(|v| *v = 1.0 + 0.5 * *v);
        }
        let images = noise(BATCH * 3 * SIZE * SIZE, 3);
        let grad = noise(BATCH * config.embedding_len(), 4);
        Self { config, params, running, images, grad }
    }

    fn eval<E: Element>(&self, pool: ThreadPool, images: usize) -> Vec<f32> {
        let mut plan = Plan::<E>::new(&self.config, BATCH, SIZE, SIZE, Arc::new(pool), Mode::Infer);
        let mut embedding = vec![f32::NAN; images * self.config.embedding_len()];
        let images = &self.images[..images * 3 * SIZE * SIZE];
        plan.forward_eval(&self.params, &self.running, images, &mut embedding);
        embedding
    }

    /// Embedding, running statistics and gradients of one training step.
    fn step<E: Element>(&self, pool: ThreadPool) -> [Vec<f32>; 3] {
        let mut plan = Plan::<E>::new(&self.config, BATCH, SIZE, SIZE, Arc::new(pool), Mode::Train);
        let (mut running, mut embedding) = (self.running.clone(), vec![f32::NAN; self.grad.len()]);
        let mut grads = vec![f32::NAN; self.params.len()];
        plan.forward_train(&self.params, &mut running, &self.images, &mut embedding);
        plan.backward(&self.params, &self.grad, &mut grads);
        [embedding, running, grads]
    }
}

#[test]
fn a_network_is_near_its_f32_twin_at_every_level() {
    let network = Network::new();
    let eval = wide(&network.eval::<f32>(ThreadPool::new(2), BATCH));
    let [embedding, running, grads] = network.step::<f32>(ThreadPool::new(2)).map(|values| wide(&values));
    for level in Level::available() {
        let pool = || ThreadPool::with_level(2, level);
        near("evaluation", &network.eval::<Bf16>(pool(), BATCH), &eval, 2.2e-2);
        near("one image", &network.eval::<Bf16>(pool(), 1), &eval[..64], 2.2e-2);
        let found = network.step::<Bf16>(pool());
        near("training", &found[0], &embedding, 3e-2);
        near("running statistics", &found[1], &running, 1e-2);
        // Masks flip where an activation is next to zero: that is most of it, in any engine.
        near("gradient", &found[2], &grads, 0.4);
    }
}

#[test]
fn results_are_the_same_bytes_from_run_to_run() {
    let network = Network::new();
    for level in Level::available() {
        for threads in [1, 2, 5] {
            let pool = || ThreadPool::with_level(threads, level);
            let bits = |values: Vec<f32>| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let first = (bits(network.eval::<Bf16>(pool(), 3)), network.step::<Bf16>(pool()).map(bits));
            for _ in 0..3 {
                let again = (bits(network.eval::<Bf16>(pool(), 3)), network.step::<Bf16>(pool()).map(bits));
                assert!(first == again, "{level:?}, {threads} threads");
            }
        }
    }
}
