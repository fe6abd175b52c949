//! What safe calls do with shapes, lengths and threads that do not fit: they panic before memory is touched, on every
//! instruction set.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::noise;
use ff_kernels::cpu::conv::indirect::{Branch, IndirectConv};
use ff_kernels::cpu::conv::stem::{Stem, StemGradient};
use ff_kernels::cpu::conv::winograd::{Conv3x3, Filters};
use ff_kernels::cpu::fuse::store::{Accumulate, Activation};
use ff_kernels::cpu::norm::{Coefficients, Norm, Residual, add_relu, apply_backward, gather_backward};
use ff_kernels::cpu::pool::{MaxPool, global_average, global_average_backward, nchw};
use ff_kernels::host::claims::Claims;
use ff_kernels::image::{IMAGENET_MEAN, IMAGENET_STD, Recipe, Rgb, augment};
use ff_kernels::{
    Buffer, ChannelSums, Epilogue, FusedLoad, Gradient, Level, MapShape, Mask, Moments, ThreadPool,
};

/// The smallest and the best instruction set, on more threads than one.
fn pools() -> [ThreadPool; 2] {
    [Level::Portable, Level::best()].map(|level| ThreadPool::with_level(2, level))
}

fn map(channels: usize) -> MapShape {
    MapShape { batch: 2, height: 3, width: 5, channels }
}

#[track_caller]
fn refused<T>(what: &str, call: impl FnOnce() -> T) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
        panic!("nothing was refused, expected `{what}`")
    };
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(message.contains(what), "expected a panic about {what}, found `{message}`");
}

/// With three channels the last pixel's vector reached five floats beyond all tensors.
#[test]
fn batchnorm_refuses_channels_that_are_no_vectors() {
    for pool in pools() {
        for channels in [0, 1, 3, 8, 15, 17, 24] {
            let shape = map(channels);
            let (x, norm) = (noise(shape.len(), 1), Norm::new(channels));
            let (coefficients, mut out) = (Coefficients::new(channels), vec![0.0; shape.len()]);
            let mut sums = ChannelSums::new(channels, 2);
            let what = "expected a multiple of 16 channels";
            for residual in [Residual::Plain(&x), Residual::Bn { raw: &x, norm: &norm }] {
                refused(what, || add_relu(&pool, shape, &x, &norm, residual, &mut out));
            }
            refused(what, || apply_backward(&pool, shape, &x, &coefficients, &mut out));
            refused(what, || gather_backward(&pool, shape, &x, &x, &norm.mean, &mut sums));
        }
    }
}

#[test]
fn batchnorm_refuses_wrong_lengths() {
    let shape = map(16);
    let (x, short) = (noise(shape.len(), 1), noise(shape.len() - 1, 1));
    let (norm, few) = (Norm::new(16), Norm::new(15));
    let mut out = x.clone();
    for pool in pools() {
        let mut add = |raw: &[f32], norm, residual| {
            refused("expected", || add_relu(&pool, shape, raw, norm, residual, &mut out));
        };
        add(&short, &norm, Residual::Plain(&x));
        add(&x, &few, Residual::Plain(&x));
        add(&x, &norm, Residual::Plain(&short));
        add(&x, &norm, Residual::Bn { raw: &short, norm: &norm });
        add(&x, &norm, Residual::Bn { raw: &x, norm: &few });
        let out = &mut out[1..];
        refused("expected", || add_relu(&pool, shape, &x, &norm, Residual::Plain(&x), out));
        refused("expected", || apply_backward(&pool, shape, &x, &Coefficients::new(16), out));
        let mut grad = x.clone();
        refused("expected", || apply_backward(&pool, shape, &x, &Coefficients::new(15), &mut grad));
        let gather = |raw: &[f32], mean: &[f32], mut sums: ChannelSums| {
            refused("", || gather_backward(&pool, shape, &x, raw, mean, &mut sums));
        };
        gather(&short, &norm.mean, ChannelSums::new(16, 2));
        gather(&x, &few.mean, ChannelSums::new(16, 2));
        gather(&x, &norm.mean, ChannelSums::new(32, 2));
        gather(&x, &norm.mean, ChannelSums::new(16, 1));
    }
}

/// Every operand of both kinds of convolution one too short, one at a time.
#[test]
fn convolutions_refuse_wrong_lengths() {
    let (input, k) = (map(16), 32);
    for pool in pools() {
        let conv = Conv3x3::new(input, k, 2);
        let len = conv.output().len();
        let (x, w, dy) = (noise(input.len(), 1), noise(k * 16 * 9, 2), noise(len, 3));
        let mut y = vec![0.0; len];
        let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
        let mut small = Buffer::zeroed(16);
        let weights = |weights| Filters::Weights { weights, scale: None };
        let forward =
            |x: FusedLoad, filters: Filters, y: &mut [f32], epilogue: Epilogue, space: &mut Buffer| {
                refused("", || conv.forward(&pool, x, filters, y, epilogue, space));
            };
        let plain = FusedLoad::Plain(&x);
        forward(FusedLoad::Plain(&x[1..]), weights(&w), &mut y, Epilogue::Store, &mut space);
        forward(plain, weights(&w[1..]), &mut y, Epilogue::Store, &mut space);
        forward(plain, Filters::Transformed(&w), &mut y, Epilogue::Store, &mut space);
        forward(plain, weights(&w), &mut y[1..], Epilogue::Store, &mut space);
        forward(plain, weights(&w), &mut y, Epilogue::Store, &mut small);
        let scaled = Filters::Weights { weights: &w, scale: Some(&x[..k - 1]) };
        forward(plain, scaled, &mut y, Epilogue::Store, &mut space);
        let few = &x[..15];
        let shifted = FusedLoad::BnRelu { raw: &x, scale: few, shift: &x[..16] };
        forward(shifted, weights(&w), &mut y, Epilogue::Store, &mut space);
        let bias = |bias, residual| Epilogue::Inference { bias, residual, activation: Activation::Relu };
        forward(plain, weights(&w), &mut y, bias(few, None), &mut space);
        forward(plain, weights(&w), &mut y, bias(&x[..k], Some(&dy[1..])), &mut space);
        forward(plain, weights(&w), &mut y, Epilogue::Statistics(&mut ChannelSums::new(k, 1)), &mut space);
        forward(plain, weights(&w), &mut y, Epilogue::Statistics(&mut ChannelSums::new(16, 2)), &mut space);
        let mask = |mask| Epilogue::Gradient(Gradient { accumulate: Accumulate::Yes, mask, moments: None });
        forward(plain, weights(&w), &mut y, mask(Mask::Activation(&dy[1..])), &mut space);
        let bn = Mask::Bn { raw: &dy, scale: &x[..k], shift: few };
        forward(plain, weights(&w), &mut y, mask(bn), &mut space);
        let moments = Some(Moments { raw: &dy, mean: few, sums: &mut ChannelSums::new(k, 2) });
        let gradient = Gradient { accumulate: Accumulate::No, mask: Mask::None, moments };
        forward(plain, weights(&w), &mut y, Epilogue::Gradient(gradient), &mut space);

        let mut dw = vec![0.0; w.len()];
        let grad = FusedLoad::Plain(&dy);
        refused("", || conv.weight_gradient(&pool, plain, grad, &mut dw[1..], &mut space));
        refused("", || conv.weight_gradient(&pool, grad, grad, &mut dw, &mut space));
        refused("", || conv.weight_gradient(&pool, plain, grad, &mut dw, &mut small));
        refused("", || conv.transform_filters(&pool, &w, None, &mut dw));

        let gemm = IndirectConv::new(input, k, 3, 2, 2);
        let len = gemm.output().len();
        let mut space = Buffer::zeroed(gemm.workspace_len().max(gemm.gradient_workspace_len()));
        let (dy, mut y, mut dx) = (&dy[..len], vec![0.0; len], x.clone());
        let forward = |x: &[f32], w: &[f32], y: &mut [f32], space: &mut Buffer| {
            refused("", || gemm.forward(&pool, x, w, y, Epilogue::Store, space));
            refused("", || gemm.forward_packed(&pool, x, w, y, Epilogue::Store, space));
        };
        forward(&x[1..], &w, &mut y, &mut space);
        forward(&x, &w[1..], &mut y, &mut space);
        forward(&x, &w, &mut y[1..], &mut space);
        forward(&x, &w, &mut y, &mut Buffer::zeroed(15));
        let back = |dy: &[f32], w: &[f32], branch: Option<Branch>, dx: &mut [f32], space: &mut Buffer| {
            refused("", || gemm.input_gradient(&pool, dy, w, branch, dx, Epilogue::Store, space));
        };
        back(&dy[1..], &w, None, &mut dx, &mut space);
        back(dy, &w[1..], None, &mut dx, &mut space);
        back(dy, &w, None, &mut dx[1..], &mut space);
        back(dy, &w, None, &mut dx, &mut small);
        back(dy, &w, Some(Branch { grad_out: &dy[1..], weights: &w[..16 * k] }), &mut dx, &mut space);
        back(dy, &w, Some(Branch { grad_out: dy, weights: &w[1..16 * k] }), &mut dx, &mut space);
        let grad = FusedLoad::Plain(dy);
        refused("", || gemm.weight_gradient(&pool, &x[1..], grad, &mut dw, &mut space));
        refused("", || gemm.weight_gradient(&pool, &x, FusedLoad::Plain(&dy[1..]), &mut dw, &mut space));
        refused("", || gemm.weight_gradient(&pool, &x, grad, &mut dw[1..], &mut space));
        refused("", || gemm.weight_gradient(&pool, &x, grad, &mut dw, &mut small));
        refused("", || gemm.pack(&pool, &w, Some(&x[..k - 1]), &mut dw));
    }
}

#[test]
fn stems_and_pools_refuse_wrong_lengths() {
    for pool in pools() {
        let stem = Stem::new(1, 7, 9, 16, 2);
        let output = stem.output();
        let (images, w, dy) = (noise(3 * 7 * 9, 1), noise(16 * 147, 2), noise(output.len(), 3));
        let mut packed = vec![0.0; stem.packed_len()];
        let mut space = Buffer::zeroed(stem.workspace_len());
        refused("images", || stem.pack_images(&pool, &images[1..], &mut packed));
        refused("packed images", || stem.pack_images(&pool, &images, &mut packed[1..]));
        let (mut y, mut dw) = (vec![0.0; output.len()], vec![0.0; w.len()]);
        let forward = |packed: &[f32], w: &[f32], scale, y: &mut [f32], space: &mut Buffer| {
            refused("", || stem.forward(&pool, packed, w, scale, y, Epilogue::Store, space));
        };
        forward(&packed[1..], &w, None, &mut y, &mut space);
        forward(&packed, &w[1..], None, &mut y, &mut space);
        forward(&packed, &w, Some(&w[..15]), &mut y, &mut space);
        forward(&packed, &w, None, &mut y[1..], &mut space);
        forward(&packed, &w, None, &mut y, &mut Buffer::zeroed(1));

        let max_pool = MaxPool::new(output);
        let len = max_pool.output().len();
        let (grad, argmax) = (noise(len, 4), vec![9_u8; len]);
        let (enough, few) = (Coefficients::new(16), Coefficients::new(15));
        let whole =
            StemGradient { pool: max_pool, grad: &grad, argmax: &argmax, raw: &dy, coefficients: &enough };
        let back = |gradient, dw: &mut [f32], space: &mut Buffer| {
            refused("", || stem.weight_gradient(&pool, &packed, gradient, dw, space));
        };
        back(StemGradient { grad: &grad[1..], ..whole }, &mut dw, &mut space);
        back(StemGradient { argmax: &argmax[1..], ..whole }, &mut dw, &mut space);
        back(StemGradient { raw: &dy[1..], ..whole }, &mut dw, &mut space);
        back(StemGradient { coefficients: &few, ..whole }, &mut dw, &mut space);
        back(StemGradient { pool: MaxPool::new(map(16)), ..whole }, &mut dw, &mut space);
        back(whole, &mut dw[1..], &mut space);
        back(whole, &mut dw, &mut Buffer::zeroed(1));

        let (mut pooled, mut places) = (grad.clone(), argmax.clone());
        refused("", || max_pool.forward(&pool, FusedLoad::Plain(&dy[1..]), &mut pooled, &mut places));
        refused("", || max_pool.forward(&pool, FusedLoad::Plain(&dy), &mut pooled[1..], &mut places));
        refused("", || max_pool.forward(&pool, FusedLoad::Plain(&dy), &mut pooled, &mut places[1..]));
        refused("", || max_pool.backward(&pool, &grad[1..], &argmax, &mut y));
        refused("", || max_pool.backward(&pool, &grad, &argmax[1..], &mut y));
        refused("", || max_pool.backward(&pool, &grad, &argmax, &mut y[1..]));
        let gather = |raw: &[f32], mean: &[f32], mut sums: ChannelSums, space: &mut [f32]| {
            refused("", || max_pool.gather_backward(&pool, &grad, &argmax, raw, mean, &mut sums, space));
        };
        gather(&dy[1..], &w[..16], ChannelSums::new(16, 2), &mut space);
        gather(&dy, &w[..15], ChannelSums::new(16, 2), &mut space);
        gather(&dy, &w[..16], ChannelSums::new(16, 1), &mut space);
        gather(&dy, &w[..16], ChannelSums::new(16, 2), &mut [0.0; 16]);

        let shape = map(16);
        let (x, mut out) = (noise(shape.len(), 5), vec![0.0; 2 * 16]);
        refused("", || global_average(&pool, shape, &x[1..], &mut out));
        refused("", || global_average(&pool, shape, &x, &mut out[1..]));
        let mut dx = x.clone();
        refused("", || global_average_backward(&pool, shape, &out[1..], &mut dx, Epilogue::Store));
        refused("", || global_average_backward(&pool, shape, &out, &mut dx[1..], Epilogue::Store));
        let (three, mut dx) = (map(3), vec![0.0; map(3).len()]);
        refused("channels", || global_average_backward(&pool, three, &[0.0; 6], &mut dx, Epilogue::Store));
    }
    refused("", || nchw::forward(&[0.0; 4], (2, 2), &mut [0.0; 2]));
    refused("", || nchw::forward(&[0.0; 4], (0, 2), &mut []));
    refused("", || nchw::backward(&[0.0; 4], &[0.0; 2], (2, 2), &mut [0.0; 4]));
}

/// Products that wrapped let short slices pass for long ones.
#[test]
fn sizes_that_wrap_are_refused() {
    const HALF: usize = 1 << (usize::BITS / 2);
    let what = "more than can be counted";
    refused(what, || Buffer::<f32>::zeroed(usize::MAX / 4 + 2));
    refused("smaller than the address space", || Buffer::<f32>::zeroed(usize::MAX / 4));
    refused(what, || ChannelSums::new(1 << 62, 2));
    refused(what, || Claims::new(Box::new(vec![0_u8; 4]), HALF, HALF));
    refused("expected room for 3 parts of 2, found 4", || Claims::new(Box::new(vec![0_u8; 4]), 2, 3));

    let wraps = MapShape { batch: HALF, height: HALF, width: 1, channels: 16 };
    refused(what, || wraps.len());
    refused(what, || wraps.pixels());
    refused(what, || wraps.is_empty());
    refused(what, || MaxPool::new(wraps));
    refused(what, || Conv3x3::<f32>::new(wraps, 16, 1));
    refused(what, || IndirectConv::<f32>::new(wraps, 16, 3, 2, 1));
    refused(what, || Stem::new(HALF, HALF, 1, 16, 1));
    refused(what, || Stem::new(1 << 56, 1, 1, 16, 1));
    // Weights that wrap, between maps that do not.
    let wide = MapShape { batch: 1, height: 1, width: 1, channels: HALF };
    refused(what, || Conv3x3::<f32>::new(wide, HALF, 1));
    refused(what, || IndirectConv::<f32>::new(wide, HALF, 3, 1, 1));

    let pool = ThreadPool::new(1);
    let (norm, none, mut out) = (Norm::new(16), [0.0; 0], [0.0; 0]);
    refused(what, || add_relu(&pool, wraps, &none, &norm, Residual::Plain(&none), &mut out));
    refused(what, || apply_backward(&pool, wraps, &none, &Coefficients::new(16), &mut out));
    refused(what, || gather_backward(&pool, wraps, &none, &none, &norm.mean, &mut ChannelSums::new(16, 1)));
    refused("average pool", || global_average_backward(&pool, wraps, &none, &mut out, Epilogue::Store));

    let recipe = Recipe { mirrored: false, colors: &[], maps: &[], mean: IMAGENET_MEAN, std: IMAGENET_STD };
    for (width, height) in [(HALF, HALF), (usize::MAX, 2), (HALF + 1, HALF)] {
        let image = Rgb { pixels: &[0; 3], width, height };
        refused(what, || augment(Level::Portable, image, &recipe, &mut [0.0; 3]));
    }
}

/// The payload of a worker stayed behind when the caller panicked as well, and the next run raised it.
#[test]
fn a_panic_is_raised_by_its_own_run_only() {
    let pool = ThreadPool::new(3);
    for round in 0..20 {
        refused("as planned", || pool.run(|index| panic!("as planned, {index}")));
        pool.run(|_| ());
        refused("as planned, 1", || pool.run(|index| assert!(index != 1, "as planned, {index}")));
        pool.run(|index| assert!(index < 3, "round {round}"));
    }
}

/// A payload whose destructor panics must not take a worker along, which nobody would wait for then.
#[test]
fn payloads_that_panic_when_dropped_stop_nothing() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("dropped");
            }
        }
    }
    let pool = ThreadPool::new(4);
    let payload = catch_unwind(AssertUnwindSafe(|| {
        pool.run(|index| {
            if index > 0 {
                std::panic::panic_any(Bomb)
            }
        })
    }));
    std::mem::forget(payload);
    pool.run(|_| ());
}
