//! How long the search for duplicates takes: `cargo run --release -p ff-data --example duplicates -- N WORKERS`.
//!
//! Fingerprints of the sample's faces are timed as they are. For the search, which needs more faces than there are
//! here, N pictures of 32 x 32 are made that vary as the sample's do: its mean face and, of twenty faces drawn, each
//! one's difference from the mean, added or taken away. Pixels then have the sample's mean and covariance.

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::{error::Error, time::Instant};

use ff_data::{
    ImageRules, ImageSize, Splits, decode,
    duplicates::{Duplicates, Fingerprint, scan},
    resize,
};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIDE: usize = 32;
const TERMS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let n = args.next().transpose()?.unwrap_or(97_698);
    let workers = args.next().transpose()?.unwrap_or(2);

    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/sample");
    let images = format!("{sample}/images");
    let splits = Splits::read(format!("{sample}/splits"), &ff_core::Schema::fairface())?;
    let files: Vec<&str> = splits.train.rows().iter().map(|row| row.file.as_str()).collect();
    let start = Instant::now();
    scan(images.as_ref(), &files, &ImageRules::default(), workers, None, |_| {})?;
    println!("fingerprints: {:.3} ms an image", start.elapsed().as_secs_f64() * 1e3 / files.len() as f64);

    let side = ImageSize { width: SIDE, height: SIDE };
    let mut faces = Vec::new();
    for file in files {
        let face = resize(&decode(&fs_err::read(format!("{images}/{file}"))?)?, side);
        faces.push(face.pixels.into_iter().map(f32::from).collect::<Vec<f32>>());
    }
    let mean: Vec<f32> = (0..3 * SIDE * SIDE)
        .map(|i| faces.iter().map(|face| face[i]).sum::<f32>() / faces.len() as f32)
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut picture = || {
        let mut pixels = mean.clone();
        for _ in 0..TERMS {
            let face = &faces[rng.next_u32() as usize % faces.len()];
            let sign = if rng.next_u32() % 2 == 0 { 1.0 } else { -1.0 } / (TERMS as f32).sqrt();
            for ((pixel, face), mean) in pixels.iter_mut().zip(face).zip(&mean) {
                *pixel += sign * (face - mean);
            }
        }
        bmp(pixels.into_iter().map(|value| value as u8))
    };
    let fingerprints: Result<Vec<_>, _> = (0..n).map(|_| Fingerprint::new(&picture()).map(Some)).collect();
    let fingerprints = fingerprints?;

    let start = Instant::now();
    let found = Duplicates::find(&fingerprints, workers, |_| {});
    println!(
        "search: {:.1} s for {n} images, {workers} threads; {} pairs look the same",
        start.elapsed().as_secs_f64(),
        found.near.len()
    );
    Ok(())
}

/// An uncompressed bitmap of 24 bits a pixel.
fn bmp(pixels: impl Iterator<Item = u8>) -> Vec<u8> {
    let len = 3 * SIDE * SIDE;
    let mut bytes = b"BM".to_vec();
    for word in [54 + len, 0, 54, 40, SIDE, SIDE] {
        bytes.extend((word as u32).to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes.extend(pixels);
    bytes
}
