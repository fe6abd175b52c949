//! Every convolution kernel against the naive one, over random shapes, sources, epilogues, levels and threads.

mod common;

use common::{Direct, assert_close, bn_relu, noise, wide};
use ff_kernels::cpu::conv::indirect::{Branch, IndirectConv};
use ff_kernels::cpu::conv::winograd::{Conv3x3, Filters};
use ff_kernels::cpu::fuse::store::{Accumulate, Activation};
use ff_kernels::cpu::norm::Coefficients;
use ff_kernels::{
    Buffer, ChannelSums, Epilogue, FusedLoad, Gradient, Level, MapShape, Mask, Moments, ThreadPool,
};
use proptest::prelude::*;

const WINOGRAD: f64 = 3e-5;
const DIRECT: f64 = 1e-5;

fn pools() -> Vec<ThreadPool> {
    Level::available().flat_map(|level| [1, 2, 5].map(|n| ThreadPool::with_level(n, level))).collect()
}

fn shapes() -> impl Strategy<Value = (MapShape, usize, u64)> {
    (1usize..4, 1usize..13, 1usize..13, 1usize..4, 1usize..4, any::<u64>()).prop_map(
        |(batch, height, width, c, k, seed)| {
            (MapShape { batch, height, width, channels: 16 * c }, 16 * k, seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn winograd_equals_direct((input, outputs, seed) in shapes()) {
        for pool in pools() {
            winograd_case(&pool, input, outputs, seed);
        }
    }

    #[test]
    fn gemm_equals_direct((input, outputs, seed) in shapes(), kernel in prop::sample::select(vec![1usize, 3]), stride in 1usize..3) {
        for pool in pools() {
            gemm_case(&pool, input, outputs, kernel, stride, seed);
        }
    }
}

/// Few enough steps for Miri and sanitizers: `cargo xtask sanitize`.
#[test]
fn small_convolutions_equal_direct() {
    for pool in Level::available().map(|level| ThreadPool::with_level(2, level)) {
        for (batch, height, width, outputs) in [(1, 1, 1, 16), (1, 5, 6, 32), (2, 4, 3, 16)] {
            let input = MapShape { batch, height, width, channels: 16 };
            winograd_case(&pool, input, outputs, 7);
            gemm_case(&pool, input, outputs, 3, 2, 7);
        }
        gemm_case(&pool, MapShape { batch: 1, height: 3, width: 4, channels: 16 }, 16, 1, 1, 7);
    }
}

/// The blockings that small random shapes do not reach: many tiles, several tile blocks, 256 channels.
#[test]
fn winograd_equals_direct_on_large_maps() {
    let pool = ThreadPool::new(2);
    for (batch, size, c, k) in [
        (1, 57, 16, 16),
        (2, 30, 64, 64),
        (1, 21, 128, 128),
        (2, 9, 256, 256),
        (5, 6, 272, 144),
        (1, 34, 144, 112),
    ] {
        winograd_case(&pool, MapShape { batch, height: size, width: size + 1, channels: c }, k, 7);
    }
}

#[test]
fn gemm_equals_direct_on_large_maps() {
    let pool = ThreadPool::new(2);
    for (batch, size, c, k, kernel) in
        [(1, 57, 16, 32, 3), (3, 28, 64, 128, 3), (1, 14, 256, 512, 3), (2, 28, 64, 128, 1)]
    {
        gemm_case(&pool, MapShape { batch, height: size, width: size, channels: c }, k, kernel, 2, 7);
    }
}

fn winograd_case(pool: &ThreadPool, input: MapShape, outputs: usize, seed: u64) {
    let conv = Conv3x3::new(input, outputs, pool.threads());
    let direct = Direct { input, outputs, kernel: 3, stride: 1 };
    let output = conv.output();
    let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
    space.fill(f32::NAN);
    let (c, k) = (input.channels, outputs);
    let x = noise(input.len(), seed);
    let w = noise(k * c * 9, seed ^ 1);
    let (scale, shift) = (noise(c, seed ^ 2), noise(c, seed ^ 3));
    let raw_filters = Filters::Weights { weights: &w, scale: None };

    // Forward, with BatchNorm and ReLU on the way in and moments on the way out.
    let activation = bn_relu(&x, &scale, &shift);
    let expected = direct.forward(&activation, &wide(&w));
    let mut y = vec![f32::NAN; output.len()];
    let mut sums = ChannelSums::new(k, pool.threads());
    let source = FusedLoad::BnRelu { raw: &x, scale: &scale, shift: &shift };
    conv.forward(pool, source, raw_filters, &mut y, Epilogue::Statistics(&mut sums), &mut space);
    assert_close("forward", &y, &expected, WINOGRAD);
    check_moments(&sums, &y);

    // Inference: transformed filters with a scale, bias, residual, ReLU.
    let (bias, factor, residual) = (noise(k, seed ^ 4), noise(k, seed ^ 5), noise(output.len(), seed ^ 6));
    let plain = direct.forward(&wide(&x), &wide(&w));
    let expected: Vec<f64> = (0..output.len())
        .map(|i| plain[i] * f64::from(factor[i % k]) + f64::from(bias[i % k]) + f64::from(residual[i]))
        .map(|y| y.max(0.0))
        .collect();
    let transformed = conv.transformed_len().map(|len| {
        let mut filters = vec![f32::NAN; len];
        conv.transform_filters(pool, &w, Some(&factor), &mut filters);
        filters
    });
    let filters = match &transformed {
        Some(filters) => Filters::Transformed(filters),
        None => Filters::Weights { weights: &w, scale: Some(&factor) },
    };
    let epilogue =
        Epilogue::Inference { bias: &bias, residual: Some(&residual), activation: Activation::Relu };
    conv.forward(pool, FusedLoad::Plain(&x), filters, &mut y, epilogue, &mut space);
    assert_close("inference", &y, &expected, WINOGRAD);

    // Input gradient, with BatchNorm's backward on the way in; accumulated, masked and summed on the way out.
    let (dy, raw) = (noise(output.len(), seed ^ 7), noise(output.len(), seed ^ 8));
    let coefficients = Coefficients {
        on_grad: noise(k, seed ^ 9),
        on_raw: noise(k, seed ^ 10),
        constant: noise(k, seed ^ 11),
    };
    let at = |v: &[f32], i: usize| f64::from(v[i % k]);
    let d_raw: Vec<f64> = (0..dy.len())
        .map(|i| {
            at(&coefficients.on_grad, i) * f64::from(dy[i])
                + at(&coefficients.on_raw, i) * f64::from(raw[i])
                + at(&coefficients.constant, i)
        })
        .collect();
    let before = noise(input.len(), seed ^ 12);
    let mut expected = direct.input_gradient(&d_raw, &wide(&w));
    for (i, e) in expected.iter_mut().enumerate() {
        *e = if activation[i] > 0.0 { *e + f64::from(before[i]) } else { 0.0 };
    }
    let mean = noise(c, seed ^ 13);
    let mut dx = before;
    let mut sums = ChannelSums::new(c, pool.threads());
    let epilogue = Epilogue::Gradient(Gradient {
        accumulate: Accumulate::Yes,
        mask: Mask::Bn { raw: &x, scale: &scale, shift: &shift },
        moments: Some(Moments { raw: &x, mean: &mean, sums: &mut sums }),
    });
    let grad_source = FusedLoad::BnBackward { grad: &dy, raw: &raw, coefficients: &coefficients };
    conv.input_gradient(pool, grad_source, &w, &mut dx, epilogue, &mut space);
    assert_close("input gradient", &dx, &expected, WINOGRAD);
    check_gradient_moments(&sums, &dx, &x, &mean);

    // Weight gradient, both operands computed on the way in.
    let expected = direct.weight_gradient(&activation, &d_raw);
    let mut dw = vec![f32::NAN; w.len()];
    conv.weight_gradient(pool, source, grad_source, &mut dw, &mut space);
    assert_close("weight gradient", &dw, &expected, WINOGRAD);
}

fn gemm_case(pool: &ThreadPool, input: MapShape, outputs: usize, kernel: usize, stride: usize, seed: u64) {
    let conv = IndirectConv::new(input, outputs, kernel, stride, pool.threads());
    let direct = Direct { input, outputs, kernel, stride };
    let output = conv.output();
    let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
    space.fill(f32::NAN);
    let (c, k) = (input.channels, outputs);
    let x = noise(input.len(), seed);
    let w = noise(k * c * kernel * kernel, seed ^ 1);

    let mut y = vec![f32::NAN; output.len()];
    let mut sums = ChannelSums::new(k, pool.threads());
    conv.forward(pool, &x, &w, &mut y, Epilogue::Statistics(&mut sums), &mut space);
    assert_close("forward", &y, &direct.forward(&wide(&x), &wide(&w)), DIRECT);
    check_moments(&sums, &y);

    let dy = noise(output.len(), seed ^ 2);
    let branch_w = noise(k * c, seed ^ 3);
    let branch_dy = noise(output.len(), seed ^ 4);
    let mask = noise(input.len(), seed ^ 5);
    let mean = noise(c, seed ^ 6);
    let branch = Direct { kernel: 1, ..direct };
    let more = branch.input_gradient(&wide(&branch_dy), &wide(&branch_w));
    let mut expected = direct.input_gradient(&wide(&dy), &wide(&w));
    for i in 0..expected.len() {
        expected[i] = if mask[i] > 0.0 { expected[i] + more[i] } else { 0.0 };
    }
    let mut dx = vec![f32::NAN; input.len()];
    let mut sums = ChannelSums::new(c, pool.threads());
    let epilogue = Epilogue::Gradient(Gradient {
        accumulate: Accumulate::No,
        mask: Mask::Activation(&mask),
        moments: Some(Moments { raw: &x, mean: &mean, sums: &mut sums }),
    });
    let branch = Some(Branch { grad_out: &branch_dy, weights: &branch_w });
    conv.input_gradient(pool, &dy, &w, branch, &mut dx, epilogue, &mut space);
    assert_close("input gradient", &dx, &expected, DIRECT);
    check_gradient_moments(&sums, &dx, &x, &mean);

    let mut dw = vec![f32::NAN; w.len()];
    conv.weight_gradient(pool, &x, FusedLoad::Plain(&dy), &mut dw, &mut space);
    assert_close("weight gradient", &dw, &direct.weight_gradient(&wide(&x), &wide(&dy)), DIRECT);
}

fn check_moments(sums: &ChannelSums, y: &[f32]) {
    let k = sums.channels();
    for channel in 0..k {
        let values = || y.iter().skip(channel).step_by(k).map(|&y| f64::from(y));
        let (sum, squares) = (values().sum::<f64>(), values().map(|y| y * y).sum::<f64>());
        let scale = values().map(f64::abs).sum::<f64>();
        let found = sums.total(channel);
        assert!((found.0 - sum).abs() <= 1e-5 * scale, "sum of channel {channel}: {} not {sum}", found.0);
        assert!(
            (found.1 - squares).abs() <= 1e-5 * squares,
            "squares of {channel}: {} not {squares}",
            found.1
        );
    }
}

fn check_gradient_moments(sums: &ChannelSums, g: &[f32], x: &[f32], mean: &[f32]) {
    let c = sums.channels();
    for (channel, &mean) in mean.iter().enumerate() {
        let at = |i: usize| f64::from(g[i]) * (f64::from(x[i]) - f64::from(mean));
        let places = || (channel..g.len()).step_by(c);
        let expected = (places().map(|i| f64::from(g[i])).sum::<f64>(), places().map(at).sum::<f64>());
        let scale = 1e-30 + places().map(|i| f64::from(g[i]).abs()).sum::<f64>();
        let found = sums.total(channel);
        assert!(
            (found.0 - expected.0).abs() <= 1e-5 * scale,
            "channel {channel}: {found:?} not {expected:?}"
        );
        assert!(
            (found.1 - expected.1).abs() <= 2e-5 * scale,
            "channel {channel}: {found:?} not {expected:?}"
        );
    }
}
