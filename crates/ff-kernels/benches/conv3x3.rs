//! ResNet-34's 3x3 stride-1 layers under divan: `cargo bench -p ff-kernels`, batch 16, all CPUs.
//!
//! Items are the floating-point operations of the direct convolution, so `item/s` is direct-equivalent FLOP/s. The
//! table beside the FMA peak, strided layers and the whole network included, is `examples/layers.rs`.

use divan::Bencher;
use divan::counter::ItemsCount;
use ff_kernels::cpu::conv::winograd::{Conv3x3, Filters};
use ff_kernels::{Buffer, Epilogue, FusedLoad, MapShape, ThreadPool};

fn main() {
    divan::main();
}

/// (channels, height and width)
const LAYERS: [(usize, usize); 4] = [(64, 56), (128, 28), (256, 14), (512, 7)];

struct Setup {
    pool: ThreadPool,
    conv: Conv3x3,
    x: Buffer,
    y: Buffer,
    weights: Buffer,
    workspace: Buffer,
}

impl Setup {
    fn new((channels, size): (usize, usize)) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shape = MapShape { batch: 16, height: size, width: size, channels };
        let conv = Conv3x3::new(shape, channels, threads);
        let noise = |len| {
            let mut buffer = Buffer::zeroed(len);
            buffer.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 7919) % 1009) as f32 / 1009.0 - 0.5);
            buffer
        };
        let workspace = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
        let (x, y, weights) = (noise(shape.len()), noise(shape.len()), noise(channels * channels * 9));
        Self { pool: ThreadPool::new(threads), conv, x, y, weights, workspace }
    }

    fn flop(&self) -> ItemsCount {
        ItemsCount::new(2 * self.conv.macs())
    }
}

#[divan::bench(args = LAYERS)]
fn forward(bencher: Bencher, layer: (usize, usize)) {
    let mut s = Setup::new(layer);
    bencher.counter(s.flop()).bench_local(|| {
        let filters = Filters::Weights { weights: &s.weights, scale: None };
        s.conv.forward(&s.pool, FusedLoad::Plain(&s.x), filters, &mut s.y, Epilogue::Store, &mut s.workspace);
    });
}

#[divan::bench(args = LAYERS)]
fn input_gradient(bencher: Bencher, layer: (usize, usize)) {
    let mut s = Setup::new(layer);
    bencher.counter(s.flop()).bench_local(|| {
        let grad_out = FusedLoad::Plain(&s.x);
        s.conv.input_gradient(&s.pool, grad_out, &s.weights, &mut s.y, Epilogue::Store, &mut s.workspace);
    });
}

#[divan::bench(args = LAYERS)]
fn weight_gradient(bencher: Bencher, layer: (usize, usize)) {
    let mut s = Setup::new(layer);
    bencher.counter(s.flop()).bench_local(|| {
        let (x, grad_out) = (FusedLoad::Plain(&s.x), FusedLoad::Plain(&s.y));
        s.conv.weight_gradient(&s.pool, x, grad_out, &mut s.weights, &mut s.workspace);
    });
}
