//! How alike the embeddings of two faces are, by the backbone alone, with any ResNet's weights (ImageNet's will do):
//! `cargo run --release --package ff-model --example compare_faces -- resnet34.safetensors a.png b.png`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::path::Path;

use candle_core::{Device, Tensor};
use ff_model::weights::{Scope, WeightFile};
use ff_model::{Compute, Engine, Parameters, image_tensor};
use image::imageops::FilterType;

/// Cosine of the angle between the two embeddings.
pub fn similarity(weights: &Path, faces: [&Path; 2]) -> Result<f32, Box<dyn std::error::Error>> {
    let file = WeightFile::read(weights)?;
    let mut parameters = Parameters::initialise(file.architecture(), &[], 0, &Device::Cpu)?; // no heads
    file.fill(Scope::Backbone, &mut parameters)?;
    let read = |face| -> Result<Tensor, Box<dyn std::error::Error>> {
        let face = image::open(face)?.resize_exact(224, 224, FilterType::Triangle).into_rgb8();
        Ok(image_tensor(&face, (224, 224), &Device::Cpu)?)
    };
    let images = Tensor::cat(&[read(faces[0])?, read(faces[1])?], 0)?;
    let mut backbone = Compute::cpu(Engine::Fast).backbone()?;
    let embeddings: Vec<Vec<f32>> = backbone.embed((&images).into(), &parameters)?.to_vec2()?; // (2,512)
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let [a, b] = [&embeddings[0], &embeddings[1]];
    Ok(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, weights, a, b] = &args[..] else {
        return Err("expected WEIGHTS.safetensors and two faces".into());
    };
    println!("{:.3}", similarity(weights.as_ref(), [a.as_ref(), b.as_ref()])?);
    Ok(())
}
