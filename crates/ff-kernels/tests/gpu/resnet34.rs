//! The whole ResNet-34 with real weights on real faces: PyTorch's embeddings, from pixels, by the GPU's kernels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ff_kernels::gpu::twins::Workbench;
use ff_kernels::gpu::{Buffer, Element, Machine, Place, Program, batch::RECIPE_LEN};
use ff_kernels::resnet::{Config, Layout, Parameter};
use safetensors::SafeTensors;

use crate::emulator::Emulator;

/// The optional test data's weights and golden tensors.
fn data() -> Option<[Vec<u8>; 2]> {
    let root = PathBuf::from(std::env::var_os("FAIRFACE_TEST_DATA")?);
    let read = |file: &str| fs_err::read(Path::new(&root).join(file)).unwrap();
    Some([read("weights/resnet34-imagenet.safetensors"), read("golden/fairface_golden.safetensors")])
}

fn flat(weights: &SafeTensors, entries: &[Parameter]) -> Vec<u8> {
    entries.iter().flat_map(|entry| weights.tensor(&entry.name).unwrap().data().to_vec()).collect()
}

#[test]
fn embeddings_are_pytorchs_in_f32_and_point_the_same_way_in_bf16() {
    let (Some([weights, golden]), Some(mut gpu)) = (data(), Emulator::new()) else {
        eprintln!("skipped: FAIRFACE_TEST_DATA is not set, or there is no C++ compiler");
        return;
    };
    let (weights, golden) =
        (SafeTensors::deserialize(&weights).unwrap(), SafeTensors::deserialize(&golden).unwrap());
    let images = golden.tensor("images_u8").unwrap();
    let [batch, height, width] = [0, 1, 2].map(|i| images.shape()[i]);
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let expected = floats(golden.tensor("eval.embedding").unwrap().data());

    let layout = Layout::new(&Config::resnet34());
    let recipes = vec![0; 4 * RECIPE_LEN * batch];
    let contents = HashMap::from([
        (Buffer::Parameters, flat(&weights, &layout.parameters)),
        (Buffer::Statistics, flat(&weights, &layout.statistics)),
        (Buffer::Pixels, images.data().to_vec()),
        (Buffer::Recipes, recipes),
    ]);
    for (&buffer, bytes) in &contents {
        gpu.reserve(buffer, bytes.len()).unwrap();
        gpu.write(Place { buffer, offset: 0 }, bytes).unwrap();
    }
    for element in [Element::F32, Element::Bf16] {
        let program = Program::infer(&Config::resnet34(), element, batch, height, width);
        gpu.reserve(Buffer::Arena, program.arena_len).unwrap();
        gpu.write(program.constants.0, &program.constants.1).unwrap();
        for commands in [&program.prepare, &program.from_pixels, &program.forward] {
            gpu.run(commands).unwrap();
        }
        let found = floats(&gpu.read(program.embedding, 4 * expected.len()).unwrap());
        let rows = found.chunks_exact(512).zip(expected.chunks_exact(512));
        let worst = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
        let difference: f64 = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let error = (difference / expected.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()).sqrt();
        println!("{element}: relative error {error:.2e}, smallest cosine {worst:.6}");
        match element {
            Element::F32 => assert!(error < 1e-3, "f32: relative error {error:.2e}"),
            Element::Bf16 => assert!(worst > 0.999, "bf16: cosine {worst}"),
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
