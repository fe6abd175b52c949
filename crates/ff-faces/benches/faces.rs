//! The parts of the way from a photo to a crop, on one thread.

use std::path::Path;

use divan::Bencher;
use ff_faces::{Detector, FAIRFACE_PADDING, Options, Photo, Quality, chip};

fn main() {
    divan::main();
}

/// The montage: 640 x 480, twelve faces.
fn montage() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/photos/fairface_montage.png");
    image::open(path).expect("the photo is in the repository").to_rgb8().into_raw()
}

/// Grey noise without a face asks for every look.
#[divan::bench]
fn search_in_vain(bencher: Bencher) {
    let pixels: Vec<u8> =
        (0..640 * 480 * 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as u8 + 100).collect();
    let photo = Photo::new(640, 480, &pixels).expect("the size is right");
    let mut detector = Detector::new(Options::default());
    bencher.bench_local(|| detector.detect(&photo));
}

#[divan::bench(args = ["n", "s"])]
fn network_at_640x480(bencher: Bencher, network: &str) {
    let pixels = montage();
    let photo = Photo::new(640, 480, &pixels).expect("the size is right");
    let mut look = ff_faces::bench::network(network);
    bencher.bench_local(|| look(&photo));
}

#[divan::bench]
fn eleven_faces(bencher: Bencher) {
    let pixels = montage();
    let photo = Photo::new(640, 480, &pixels).expect("the size is right");
    let mut detector = Detector::new(Options::default());
    bencher.bench_local(|| detector.detect(&photo).len());
}

#[divan::bench]
fn one_chip(bencher: Bencher) {
    let pixels = montage();
    let photo = Photo::new(640, 480, &pixels).expect("the size is right");
    let face = Detector::new(Options::default()).detect(&photo)[0];
    bencher.bench_local(|| chip(&photo, &face, 224, FAIRFACE_PADDING));
}

#[divan::bench]
fn one_quality(bencher: Bencher) {
    let pixels = montage();
    let photo = Photo::new(640, 480, &pixels).expect("the size is right");
    let face = Detector::new(Options::default()).detect(&photo)[0];
    bencher.bench_local(|| Quality::of(&photo, &face));
}
