//! Microseconds per image of 224 x 224 for single operations of the fused pass.
//!
//! `cargo run --release -p ff-kernels --example image`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::time::Instant;

use ff_kernels::{
    Level,
    image::{ColorOp, Recipe, Rgb, augment},
};

fn main() {
    let (width, height) = (224, 224);
    let pixels: Vec<u8> = (0..3 * width * height).map(|i| ((i * 2_654_435_761_usize) >> 13) as u8).collect();
    let image = Rgb { pixels: &pixels, width, height };
    let mut out = vec![0.0; pixels.len()];
    let none = Recipe {
        mirrored: false,
        colors: &[],
        maps: &[],
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    let brightness = [ColorOp::Brightness(1.1)];
    let contrast = [ColorOp::Contrast(1.1)];
    let saturation = [ColorOp::Saturation(1.1)];
    let hue = [ColorOp::Hue(0.03)];
    let jitter = [saturation[0], hue[0], contrast[0], brightness[0]];
    let maps = [[0.99, 0.1, 0.0, -0.1, 0.99, 0.0], [1.07, 0.0, 3.0, 0.0, 1.07, -4.0]];
    let cases = [
        ("nothing", none),
        ("mirror", Recipe { mirrored: true, ..none }),
        ("brightness", Recipe { colors: &brightness, ..none }),
        ("contrast", Recipe { colors: &contrast, ..none }),
        ("saturation", Recipe { colors: &saturation, ..none }),
        ("hue", Recipe { colors: &hue, ..none }),
        ("jitter", Recipe { colors: &jitter, ..none }),
        ("a map", Recipe { maps: &maps[..1], ..none }),
        ("two maps", Recipe { maps: &maps, ..none }),
    ];
    for level in Level::available() {
        for (name, recipe) in &cases {
            let mut least = f64::INFINITY;
            for _ in 0..60 {
                let start = Instant::now();
                augment(level, image, recipe, &mut out);
                least = least.min(start.elapsed().as_secs_f64() * 1e6);
            }
            println!("{level:?} {name:>12} {least:7.1}");
        }
    }
}
