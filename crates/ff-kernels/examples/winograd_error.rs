//! Prints the error of every 3x3 stride-1 shape of ResNet-34 against `f64`: largest difference over largest value,
//! for Winograd and, beside it, for the indirect GEMM on the same numbers.
//!
//! `cargo run --release -p ff-kernels --example winograd_error`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Direct, error, noise, wide};
use ff_kernels::cpu::conv::indirect::IndirectConv;
use ff_kernels::cpu::conv::winograd::{Conv3x3, Filters};
use ff_kernels::{Buffer, Epilogue, FusedLoad, MapShape, ThreadPool};

fn main() {
    let pool = ThreadPool::new(2);
    println!(
        "| layer | forward | input gradient | weight gradient | direct: forward | input gradient | weight gradient |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (channels, size) in [(64, 56), (128, 28), (256, 14), (512, 7)] {
        let input = MapShape { batch: 2, height: size, width: size, channels };
        let direct = Direct { input, outputs: channels, kernel: 3, stride: 1 };
        let (mut x, dy) = (noise(input.len(), 1), noise(input.len(), 2));
        // As after a ReLU; weights at He's scale.
        x.iter_mut().for_each(|x| *x = x.max(0.0));
        let mut w = noise(channels * channels * 9, 3);
        w.iter_mut().for_each(|w| *w *= (6.0 / (9.0 * channels as f32)).sqrt());
        let (x64, dy64, w64) = (wide(&x), wide(&dy), wide(&w));
        let expected = [
            direct.forward(&x64, &w64),
            direct.input_gradient(&dy64, &w64),
            direct.weight_gradient(&x64, &dy64),
        ];

        let conv = Conv3x3::new(input, channels, pool.threads());
        let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
        let [mut y, mut dx, mut dw] = [vec![0.0; input.len()], vec![0.0; input.len()], vec![0.0; w.len()]];
        let filters = Filters::Weights { weights: &w, scale: None };
        conv.forward(&pool, FusedLoad::Plain(&x), filters, &mut y, Epilogue::Store, &mut space);
        conv.input_gradient(&pool, FusedLoad::Plain(&dy), &w, &mut dx, Epilogue::Store, &mut space);
        conv.weight_gradient(&pool, FusedLoad::Plain(&x), FusedLoad::Plain(&dy), &mut dw, &mut space);
        print!("| {channels} channels, {size}x{size} |");
        for (found, expected) in [&y, &dx, &dw].into_iter().zip(&expected) {
            print!(" {:.1e} |", error(found, expected));
        }

        let conv = IndirectConv::new(input, channels, 3, 1, pool.threads());
        let mut space = Buffer::zeroed(conv.workspace_len().max(conv.gradient_workspace_len()));
        conv.forward(&pool, &x, &w, &mut y, Epilogue::Store, &mut space);
        conv.input_gradient(&pool, &dy, &w, None, &mut dx, Epilogue::Store, &mut space);
        conv.weight_gradient(&pool, &x, FusedLoad::Plain(&dy), &mut dw, &mut space);
        for (found, expected) in [&y, &dx, &dw].into_iter().zip(&expected) {
            print!(" {:.1e} |", error(found, expected));
        }
        println!();
    }
}
