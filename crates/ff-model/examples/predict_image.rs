//! Age, gender and race of one face, from a project that has only this crate and `image`:
//! `cargo run --release --package ff-model --example predict_image -- model.safetensors face.png`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::path::Path;

use candle_core::Device;
use ff_model::{Compute, Engine, FaceModel, image_tensor};
use image::imageops::FilterType;

/// The most probable label of every task.
pub fn predict(weights: &Path, face: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (mut model, tasks) = FaceModel::open(weights, &Compute::cpu(Engine::Fast))?;
    let face = image::open(face)?.resize_exact(224, 224, FilterType::Triangle).into_rgb8();
    let prediction = model.predict(&image_tensor(&face, (224, 224), &Device::Cpu)?)?;
    let answers = tasks.iter().zip(&prediction.logits).map(|(task, logits)| {
        let logits: Vec<f32> = logits.flatten_all()?.to_vec1()?; // (1, classes)
        Ok(task.most_probable(&logits).to_owned())
    });
    answers.collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, weights, face] = &args[..] else { return Err("expected MODEL.safetensors and a face".into()) };
    println!("{}", predict(weights.as_ref(), face.as_ref())?.join(", "));
    Ok(())
}
