//! Prints, for every convolution shape of ResNet-34, the time of the forward pass and both gradients, the rate in
//! direct-equivalent GFLOP/s and its share of the FMA peak measured in the same run; then whole-network rates.
//!
//! `cargo run --release -p ff-kernels --example layers -- [threads] [batch] [layers|net|all] [f32|bf16]`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ff_kernels::cpu::conv::indirect::IndirectConv;
use ff_kernels::cpu::conv::winograd::{Conv3x3, Filters};
use ff_kernels::cpu::plan::Plan;
use ff_kernels::network::{Config, Layout, Mode};
use ff_kernels::{Bf16, Buffer, Element, Epilogue, FusedLoad, MapShape, ThreadPool};

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().map_or(2, |arg| arg.parse().expect("a number of threads"));
    let batch = args.next().map_or(16, |arg| arg.parse().expect("a batch size"));
    let what = args.next().unwrap_or_else(|| "all".to_owned());
    let precision = args.next().unwrap_or_else(|| "f32".to_owned());
    println!("{threads} threads, {:?}, batch {batch}, {precision}", ThreadPool::new(threads).level());
    match precision.as_str() {
        "bf16" => measure::<Bf16>(threads, batch, &what),
        _ => measure::<f32>(threads, batch, &what),
    }
}

fn measure<E: Element>(threads: usize, batch: usize, what: &str) {
    let pool = ThreadPool::new(threads);
    if what != "net" {
        layers::<E>(&pool, batch);
    }
    if what != "layers" {
        network::<E>(Arc::new(pool), if what == "all" { vec![1, 16, 32] } else { vec![batch] });
    }
}

fn layers<E: Element>(pool: &ThreadPool, batch: usize) {
    let peak = fma_peak(pool);
    println!("FMA peak {peak:.0} GFLOP/s\n");
    println!(
        "| layer | forward ms | GFLOP/s | peak | input gradient ms | GFLOP/s | peak | weight gradient ms | GFLOP/s | peak |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (channels, size) in [(64, 56), (128, 28), (256, 14), (512, 7)] {
        let shape = MapShape { batch, height: size, width: size, channels };
        let conv = Conv3x3::<E>::new(shape, channels, pool.threads());
        let (x, mut y) = (zeros::<E>(shape.len()), zeros::<E>(shape.len()));
        let weights = noise(channels * channels * 9);
        let mut grad = noise(weights.len());
        let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
        let source = FusedLoad::Plain(&x);
        let forward = time(|| {
            let filters = Filters::Weights { weights: &weights, scale: None };
            conv.forward(pool, source, filters, &mut y, Epilogue::Store, &mut space);
        });
        let input = time(|| conv.input_gradient(pool, source, &weights, &mut y, Epilogue::Store, &mut space));
        let weight = time(|| conv.weight_gradient(pool, source, FusedLoad::Plain(&y), &mut grad, &mut space));
        let name = format!("3x3 {channels}->{channels} {size}x{size}");
        row(&name, conv.macs(), peak, [forward, input, weight]);
    }
    for (kernel, inputs, size) in
        [(3, 64, 56), (3, 128, 28), (3, 256, 14), (1, 64, 56), (1, 128, 28), (1, 256, 14)]
    {
        let shape = MapShape { batch, height: size, width: size, channels: inputs };
        let conv = IndirectConv::<E>::new(shape, 2 * inputs, kernel, 2, pool.threads());
        let (mut x, mut y) = (zeros::<E>(shape.len()), zeros::<E>(conv.output().len()));
        let weights = noise(conv.packed_len());
        let mut grad = noise(weights.len());
        let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
        let forward = time(|| conv.forward(pool, &x, &weights, &mut y, Epilogue::Store, &mut space));
        let weight = time(|| conv.weight_gradient(pool, &x, FusedLoad::Plain(&y), &mut grad, &mut space));
        let input =
            time(|| conv.input_gradient(pool, &y, &weights, None, &mut x, Epilogue::Store, &mut space));
        let name = format!("{kernel}x{kernel}/2 {inputs}->{} {size}x{size}", 2 * inputs);
        row(&name, conv.macs(), peak, [forward, input, weight]);
    }
    println!();
}

fn network<E: Element>(pool: Arc<ThreadPool>, batches: Vec<usize>) {
    let config = Config::resnet34();
    let layout = Layout::new(&config);
    let mut params = noise(layout.parameters_len());
    for value in params.iter_mut() {
        *value *= 0.05;
    }
    let mut running = vec![1.0; layout.statistics_len()];
    for batch in batches {
        let images = noise(batch * 3 * 224 * 224);
        let mut embedding = vec![0.0; batch * 512];
        let mut plan = Plan::<E>::new(&config, batch, 224, 224, Arc::clone(&pool), Mode::Infer);
        let infer = time(|| plan.forward_eval(&params, &running, &images, &mut embedding));
        println!(
            "batch {batch}: inference {:.1} ms, {:.1} images/s, {} MB",
            infer * 1e3,
            batch as f64 / infer,
            plan.bytes() >> 20
        );
        let mut plan = Plan::<E>::new(&config, batch, 224, 224, Arc::clone(&pool), Mode::Train);
        let mut grads = vec![0.0; params.len()];
        let mut forward_time = f64::INFINITY;
        let step = time(|| {
            let start = Instant::now();
            plan.forward_train(&params, &mut running, &images, &mut embedding);
            forward_time = forward_time.min(start.elapsed().as_secs_f64());
            plan.backward(&params, &embedding, &mut grads);
        });
        println!(
            "batch {batch}: training step {:.1} ms (forward {:.1}), {:.1} images/s, {} MB",
            step * 1e3,
            forward_time * 1e3,
            batch as f64 / step,
            plan.bytes() >> 20
        );
    }
}

fn row(name: &str, macs: usize, peak: f64, seconds: [f64; 3]) {
    print!("| {name} |");
    for time in seconds {
        let rate = 2e-9 * macs as f64 / time;
        print!(" {:.2} | {rate:.0} | {:.0} % |", time * 1e3, 100.0 * rate / peak);
    }
    println!();
}

/// The best of several runs, after one to warm up: on a shared machine, the run that was disturbed least.
fn time(mut job: impl FnMut()) -> f64 {
    job();
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || (start.elapsed().as_secs_f64() < 0.5 && times.len() < 50) {
        let start = Instant::now();
        job();
        times.push(start.elapsed().as_secs_f64());
    }
    times.into_iter().fold(f64::INFINITY, f64::min)
}

/// GFLOP/s of independent multiply-adds in registers, all threads.
fn fma_peak(pool: &ThreadPool) -> f64 {
    let seconds =
        (0..3).map(|_| time(|| ff_kernels::cpu::peak::fma_burn(pool, 1 << 20))).fold(f64::INFINITY, f64::min);
    ff_kernels::cpu::peak::fma_burn_flop(pool, 1 << 20) / black_box(seconds) * 1e-9
}

/// A product takes as long whatever the values are.
fn zeros<E: Element>(len: usize) -> Buffer<E> {
    Buffer::zeroed(len)
}

fn noise(len: usize) -> Buffer {
    let mut buffer = Buffer::zeroed(len);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for value in buffer.iter_mut() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *value = (state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0;
    }
    buffer
}
