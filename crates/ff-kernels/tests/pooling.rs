//! Pools and the stem against naive ones.

mod common;

use common::{Direct, assert_close, bn_relu, noise, wide};
use ff_kernels::cpu::conv::stem::{Stem, StemGradient};
use ff_kernels::cpu::fuse::store::{Accumulate, Gradient, Mask};
use ff_kernels::cpu::norm::Coefficients;
use ff_kernels::cpu::pool::{MaxPool, global_average, global_average_backward};
use ff_kernels::{Buffer, ChannelSums, Epilogue, FusedLoad, Level, MapShape, ThreadPool};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn max_pool_equals_naive(batch in 1usize..3, height in 1usize..10, width in 1usize..10, c in 1usize..3, seed: u64) {
        let input = MapShape { batch, height, width, channels: 16 * c };
        for level in Level::available() {
            for threads in [1, 3] {
                max_pool_case(&ThreadPool::with_level(threads, level), input, seed);
            }
        }
    }

    #[test]
    fn stem_equals_naive(batch in 1usize..3, height in 1usize..24, width in 1usize..40, k in 1usize..3, seed: u64) {
        for level in Level::available() {
            for threads in [1, 3] {
                stem_case(&ThreadPool::with_level(threads, level), [batch, height, width], 16 * k, seed);
            }
        }
    }
}

/// Few enough steps for Miri and sanitizers: `cargo xtask sanitize`.
#[test]
fn small_pools_and_stems_equal_naive() {
    for pool in Level::available().map(|level| ThreadPool::with_level(2, level)) {
        max_pool_case(&pool, MapShape { batch: 1, height: 4, width: 3, channels: 16 }, 7);
        stem_case(&pool, [1, 5, 14], 16, 7);
    }
}

fn max_pool_case(pool: &ThreadPool, input: MapShape, seed: u64) {
    let max_pool = MaxPool::new(input);
    let output = max_pool.output();
    // Few distinct values, so that ties happen.
    let x: Vec<f32> = noise(input.len(), seed).iter().map(|x| (x * 2.0).round()).collect();
    let c = input.channels;
    let (mut y, mut argmax) = (vec![f32::NAN; output.len()], vec![99u8; output.len()]);
    max_pool.forward(pool, FusedLoad::Plain(&x), &mut y, &mut argmax);
    let dy = noise(output.len(), seed ^ 1);
    let mut expected_dx = vec![0.0f64; input.len()];
    for b in 0..input.batch {
        for oy in 0..output.height {
            for ox in 0..output.width {
                for ch in 0..c {
                    let mut best: Option<(f32, usize, u8)> = None;
                    for code in 0..9 {
                        let (iy, ix) = (oy * 2 + code / 3, ox * 2 + code % 3);
                        if iy == 0 || ix == 0 || iy > input.height || ix > input.width {
                            continue;
                        }
                        let at = ((b * input.height + iy - 1) * input.width + ix - 1) * c + ch;
                        if best.is_none_or(|(value, _, _)| x[at] > value) {
                            best = Some((x[at], at, code as u8));
                        }
                    }
                    let (value, at, code) = best.expect("a window is never empty");
                    let o = ((b * output.height + oy) * output.width + ox) * c + ch;
                    assert_eq!((y[o], argmax[o]), (value, code));
                    expected_dx[at] += f64::from(dy[o]);
                }
            }
        }
    }
    let mut dx = vec![f32::NAN; input.len()];
    max_pool.backward(pool, &dy, &argmax, &mut dx);
    assert_close("max-pool gradient", &dx, &expected_dx, 1e-6);

    let mean = noise(c, seed ^ 2);
    let mut sums = ChannelSums::new(c, pool.threads());
    let mut space = vec![f32::NAN; pool.threads() * (input.width + 2) * c];
    max_pool.gather_backward(pool, &dy, &argmax, &x, &mean, &mut sums, &mut space);
    for (channel, &mean) in mean.iter().enumerate() {
        let at = |i: usize| expected_dx[i] * (f64::from(x[i]) - f64::from(mean));
        let places = || (channel..input.len()).step_by(c);
        let (sum, moment) = sums.total(channel);
        assert!((sum - places().map(|i| expected_dx[i]).sum::<f64>()).abs() < 1e-4);
        assert!((moment - places().map(at).sum::<f64>()).abs() < 1e-4);
    }
}

#[test]
fn max_pool_passes_nan_on() {
    for level in Level::available() {
        let pool = ThreadPool::with_level(1, level);
        let max_pool = MaxPool::new(MapShape { batch: 1, height: 3, width: 3, channels: 16 });
        let mut x = noise(9 * 16, 1);
        x[16 * 4..16 * 5].fill(f32::NAN);
        let (mut y, mut argmax) = (vec![0.0; 4 * 16], vec![0; 4 * 16]);
        max_pool.forward(&pool, FusedLoad::Plain(&x), &mut y, &mut argmax);
        assert!(y.iter().all(|y| y.is_nan()));
        assert_eq!(argmax[0], 8, "window 0 sees the centre at its last place");
    }
}

/// BatchNorm and ReLU before the pool must not hide a NaN either.
#[test]
fn max_pool_passes_nan_through_relu() {
    for level in Level::available() {
        let pool = ThreadPool::with_level(1, level);
        let max_pool = MaxPool::new(MapShape { batch: 1, height: 1, width: 1, channels: 16 });
        let (x, one, zero) = ([f32::NAN; 16], [1.0; 16], [0.0; 16]);
        let (mut y, mut argmax) = (vec![0.0; 16], vec![0; 16]);
        max_pool.forward(
            &pool,
            FusedLoad::BnRelu { raw: &x, scale: &one, shift: &zero },
            &mut y,
            &mut argmax,
        );
        assert!(y.iter().all(|y| y.is_nan()));
    }
}

fn stem_case(pool: &ThreadPool, [batch, height, width]: [usize; 3], outputs: usize, seed: u64) {
    let stem = Stem::new(batch, height, width, outputs, pool.threads());
    let output = stem.output();
    let images = noise(batch * 3 * height * width, seed);
    let weights = noise(outputs * 147, seed ^ 1);
    // The reference wants NHWC.
    let input = MapShape { batch, height, width, channels: 3 };
    let mut nhwc = vec![0.0; images.len()];
    for b in 0..batch {
        for c in 0..3 {
            for p in 0..height * width {
                nhwc[(b * height * width + p) * 3 + c] = f64::from(images[(b * 3 + c) * height * width + p]);
            }
        }
    }
    let direct = Direct { input, outputs, kernel: 7, stride: 2 };
    let mut packed = vec![f32::NAN; stem.packed_len()];
    stem.pack_images(pool, &images, &mut packed);
    let mut space = Buffer::zeroed(stem.workspace_len());
    space.fill(f32::NAN);
    let mut y = vec![f32::NAN; output.len()];
    let mut sums = ChannelSums::new(outputs, pool.threads());
    stem.forward(pool, &packed, &weights, None, &mut y, Epilogue::Statistics(&mut sums), &mut space);
    let expected = direct.forward(&nhwc, &wide(&weights));
    assert_close("stem", &y, &expected, 1e-5);
    for channel in 0..outputs {
        let squares: f64 = expected.iter().skip(channel).step_by(outputs).map(|y| y * y).sum();
        assert!((sums.total(channel).1 - squares).abs() <= 1e-4 * squares);
    }

    let max_pool = MaxPool::new(output);
    let (scale, shift) = (noise(outputs, seed ^ 2), noise(outputs, seed ^ 3));
    let (mut pooled, mut argmax) = (vec![0.0; max_pool.output().len()], vec![0; max_pool.output().len()]);
    max_pool.forward(
        pool,
        FusedLoad::BnRelu { raw: &y, scale: &scale, shift: &shift },
        &mut pooled,
        &mut argmax,
    );
    let highest = bn_relu(&y, &scale, &shift).iter().fold(0.0f64, |m, x| m.max(*x));
    assert!(pooled.iter().all(|&p| f64::from(p) <= highest * 1.000_001));

    let grad = noise(pooled.len(), seed ^ 4);
    let coefficients = Coefficients {
        on_grad: noise(outputs, seed ^ 5),
        on_raw: noise(outputs, seed ^ 6),
        constant: noise(outputs, seed ^ 7),
    };
    let mut before_pool = vec![0.0; output.len()];
    max_pool.backward(pool, &grad, &argmax, &mut before_pool);
    let dy: Vec<f64> = (0..output.len())
        .map(|i| {
            let at = |v: &[f32]| f64::from(v[i % outputs]);
            at(&coefficients.on_grad) * f64::from(before_pool[i])
                + at(&coefficients.on_raw) * f64::from(y[i])
                + at(&coefficients.constant)
        })
        .collect();
    let mut dw = vec![f32::NAN; weights.len()];
    let gradient =
        StemGradient { pool: max_pool, grad: &grad, argmax: &argmax, raw: &y, coefficients: &coefficients };
    stem.weight_gradient(pool, &packed, gradient, &mut dw, &mut space);
    assert_close("stem weight gradient", &dw, &direct.weight_gradient(&nhwc, &dy), 1e-5);
}

#[test]
fn average_pool_and_back() {
    let shape = MapShape { batch: 3, height: 2, width: 5, channels: 32 };
    let x = noise(shape.len(), 1);
    let grad = noise(3 * 32, 2);
    for level in Level::available() {
        let pool = ThreadPool::with_level(2, level);
        let mut mean = vec![0.0; 3 * 32];
        global_average(&pool, shape, &x, &mut mean);
        let expected: Vec<f64> = (0..3 * 32)
            .map(|i| (0..10).map(|p| f64::from(x[(i / 32 * 10 + p) * 32 + i % 32])).sum::<f64>() / 10.0)
            .collect();
        assert_close("average", &mean, &expected, 1e-6);
        let mut dx = vec![f32::NAN; shape.len()];
        let mask = Mask::Activation(&x);
        let epilogue = Epilogue::Gradient(Gradient { accumulate: Accumulate::No, mask, moments: None });
        global_average_backward(&pool, shape, &grad, &mut dx, epilogue);
        let expected: Vec<f64> = (0..shape.len())
            .map(|i| if x[i] > 0.0 { f64::from(grad[i / 320 * 32 + i % 32]) / 10.0 } else { 0.0 })
            .collect();
        assert_close("average gradient", &dx, &expected, 1e-6);
    }
}
