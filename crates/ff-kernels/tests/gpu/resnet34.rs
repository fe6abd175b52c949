//! The whole ResNet-34 with real weights on real faces: PyTorch's embeddings and losses, from pixels, by the GPU's
//! kernels.

use std::path::{Path, PathBuf};

use ff_kernels::cpu::optim::AdamW;
use ff_kernels::gpu::check::Workbench;
use ff_kernels::gpu::check::values::{cosine, relative_error};
use ff_kernels::gpu::{Buffer, BufferPlace, Element, Machine, Program, program::batch::RECIPE_LEN};
use ff_kernels::network::{Config, Layout, Parameter};
use safetensors::SafeTensors;

use crate::emulator::Emulator;
use crate::heads::Heads;

/// The optional test data's weights and golden tensors, and a machine, or word of what is missing.
fn start() -> Option<([Vec<u8>; 2], Emulator)> {
    let started = std::env::var_os("FAIRFACE_TEST_DATA").and_then(|root| {
        let read = |file: &str| fs_err::read(Path::new(&PathBuf::from(&root)).join(file)).unwrap();
        let files = ["weights/resnet34-imagenet.safetensors", "golden/fairface_golden.safetensors"];
        Some((files.map(read), Emulator::new()?))
    });
    if started.is_none() {
        eprintln!("skipped: FAIRFACE_TEST_DATA is not set, or there is no C++ compiler");
    }
    started
}

fn flat(weights: &SafeTensors, entries: &[Parameter]) -> Vec<u8> {
    entries.iter().flat_map(|entry| weights.tensor(&entry.name).unwrap().data().to_vec()).collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Puts the weights and the faces where programs look for them; gives the faces' (B, H, W).
fn fill(gpu: &mut Emulator, weights: &SafeTensors, golden: &SafeTensors) -> [usize; 3] {
    let layout = Layout::new(&Config::resnet34());
    let images = golden.tensor("images_u8").unwrap();
    let shape = [0, 1, 2].map(|i| images.shape()[i]);
    for (buffer, bytes) in [
        (Buffer::Parameters, flat(weights, &layout.parameters)),
        (Buffer::Statistics, flat(weights, &layout.statistics)),
        (Buffer::Pixels, images.data().to_vec()),
        (Buffer::Recipes, vec![0; 4 * RECIPE_LEN * shape[0]]),
    ] {
        put(gpu, buffer, &bytes);
    }
    shape
}

fn put(gpu: &mut Emulator, buffer: Buffer, bytes: &[u8]) {
    gpu.reserve(buffer, bytes.len()).unwrap();
    gpu.write(BufferPlace { buffer, offset: 0 }, bytes).unwrap();
}

fn load(gpu: &mut Emulator, program: &Program) {
    gpu.reserve(Buffer::Arena, program.arena_len()).unwrap();
    gpu.write(program.constants().place, &program.constants().bytes).unwrap();
    gpu.run(program.from_pixels()).unwrap();
}

#[test]
fn embeddings_are_pytorchs_in_f32_and_point_the_same_way_in_bf16() {
    let Some(([weights, golden], mut gpu)) = start() else { return };
    let (weights, golden) =
        (SafeTensors::deserialize(&weights).unwrap(), SafeTensors::deserialize(&golden).unwrap());
    let [batch, height, width] = fill(&mut gpu, &weights, &golden);
    let expected = floats(golden.tensor("eval.embedding").unwrap().data());
    for element in [Element::F32, Element::Bf16] {
        let program = Program::infer(&Config::resnet34(), element, batch, height, width);
        load(&mut gpu, &program);
        gpu.run(program.prepare()).unwrap();
        gpu.run(program.forward()).unwrap();
        let found = floats(&gpu.read(program.embedding(), 4 * expected.len()).unwrap());
        let rows = found.chunks_exact(512).zip(expected.chunks_exact(512));
        let worst = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
        let error = relative_error(&found, &expected);
        println!("{element}: relative error {error:.2e}, smallest cosine {worst:.6}");
        match element {
            Element::F32 => assert!(error < 1e-3, "f32: relative error {error:.2e}"),
            // NaN is no cosine, but an error that is not small.
            Element::Bf16 => {
                assert!(worst > 0.999 && error < 0.05, "bf16: cosine {worst}, error {error:.2e}")
            }
        }
    }
}

#[test]
fn three_steps_in_bf16_follow_pytorch() {
    follow_pytorch(3);
}

#[test]
#[ignore = "takes minutes"]
fn ten_steps_in_bf16_follow_pytorch() {
    follow_pytorch(10);
}

/// What PyTorch's AdamW does in f32, the GPU's kernels do in bf16, within 3 %.
fn follow_pytorch(steps: usize) {
    let Some(([weights, golden], mut gpu)) = start() else { return };
    let (weights, golden) =
        (SafeTensors::deserialize(&weights).unwrap(), SafeTensors::deserialize(&golden).unwrap());
    let [batch, height, width] = fill(&mut gpu, &weights, &golden);
    let program = Program::train(&Config::resnet34(), Element::Bf16, batch, height, width);
    load(&mut gpu, &program);
    let mut heads = Heads::read(&golden);
    let mut backbone = floats(&flat(&weights, &program.layout().parameters));
    let mut states = [backbone.len(), heads.parameters.len()].map(|len| [vec![0.0; len], vec![0.0; len]]);
    put(&mut gpu, Buffer::Gradient, &bytes(&backbone));
    for (i, expected) in
        floats(golden.tensor("adamw.loss").unwrap().data()).into_iter().take(steps).enumerate()
    {
        put(&mut gpu, Buffer::Parameters, &bytes(&backbone));
        gpu.run(program.from_pixels()).unwrap();
        gpu.run(program.forward()).unwrap();
        let (loss, grad) = heads.loss(&floats(&gpu.read(program.embedding(), 4 * batch * 512).unwrap()));
        gpu.write(program.grad_embedding().unwrap(), &bytes(&grad)).unwrap();
        gpu.run(program.backward()).unwrap();
        let gradient =
            gpu.read(BufferPlace { buffer: Buffer::Gradient, offset: 0 }, 4 * backbone.len()).unwrap();
        println!(
            "step {i}: loss {loss:.5}, PyTorch {expected:.5}, {:+.2} %",
            100.0 * (loss / expected - 1.0)
        );
        assert!((loss - expected).abs() < 0.03 * expected, "step {i}: loss {loss}, PyTorch {expected}");

        let (lr, step) = (1e-4, i as u64 + 1);
        let adamw =
            AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step, grad_scale: 1.0 };
        let [[first, second], [heads_first, heads_second]] = &mut states;
        adamw.apply(&mut backbone, first, second, &floats(&gradient), None);
        let Heads { parameters, gradient, .. } = &mut heads;
        adamw.apply(parameters, heads_first, heads_second, gradient, None);
    }
}
