//! Milliseconds per batch of 256, for each preset and worker count, on the bundled sample (warm page cache).
//!
//! `cargo run --release -p ff-data --example throughput [WORKERS...]`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ff_core::Schema;
use ff_data::{
    Augment, Dataset, Loader, LoaderConfig, Mode, Result, Scratch, Splits, default_workers, transforms,
};

const BATCH: usize = 256;
const ROUNDS: u64 = 5;

fn main() -> Result<()> {
    let workers: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let workers = if workers.is_empty() { vec![1, default_workers()] } else { workers };

    one_thread()?;
    println!("\nloader, ms per batch of {BATCH} (median of {ROUNDS} epochs of 2 batches)");
    for preset in Augment::ALL {
        for &workers in &workers {
            let config = LoaderConfig::train(BATCH).with_workers(workers);
            let mut loader = Loader::new(Arc::new(dataset(preset)?), config)?;
            let mut times = vec![];
            for epoch in 0..ROUNDS + 1 {
                let start = Instant::now();
                let n_batches = loader.epoch(epoch, 0).collect::<Result<Vec<_>>>()?.len();
                times.push(start.elapsed() / n_batches as u32);
            }
            times.remove(0);
            println!("{preset:>9} {workers} workers {:8.1} ms", ms(median(times)));
        }
    }
    Ok(())
}

/// Where the time of one image goes, on one thread.
fn one_thread() -> Result<()> {
    let mut scratch = Scratch::default();
    let size = ff_data::ImageSize::DEFAULT;
    let balanced = dataset(Augment::Balanced)?;
    let n = BATCH as u32;
    let each = |mut work: Box<dyn FnMut(usize) -> Result<()> + '_>| -> Result<Duration> {
        let mut times = vec![];
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for sample_idx in 0..BATCH {
                work(sample_idx)?;
            }
            times.push(start.elapsed() / n);
        }
        Ok(median(times))
    };
    println!("one thread, microseconds per image");
    let report = |name: &str, time: Duration| println!("{name:>20} {:8.0}", time.as_secs_f64() * 1e6);

    let read = |sample_idx| balanced.read_rgb(sample_idx, &mut scratch).map(drop);
    report("read and decode", each(Box::new(read))?);
    let image = balanced.read_rgb(0, &mut Scratch::default())?.clone();
    let mut planes = vec![0.0; balanced.image_len()];
    let mut spare = vec![];
    let mut step = |name: &str, work: &dyn Fn(&mut [f32], &mut Vec<f32>)| -> Result<()> {
        transforms::to_planes(&image, &mut planes);
        report(
            name,
            each(Box::new(|_| {
                work(&mut planes, &mut spare);
                Ok(())
            }))?,
        );
        Ok(())
    };
    step("to planes", &|planes, _| transforms::to_planes(&image, planes))?;
    step("flip", &|planes, _| transforms::hflip(planes, size))?;
    step("brightness", &|planes, _| transforms::adjust_brightness(planes, 1.01))?;
    step("contrast", &|planes, _| transforms::adjust_contrast(planes, 1.01))?;
    step("saturation", &|planes, _| transforms::adjust_saturation(planes, 1.01))?;
    step("hue", &|planes, _| transforms::adjust_hue(planes, 0.01))?;
    step("rotation", &|planes, spare| transforms::rotate(planes, size, 5.0, spare))?;
    step("normalise", &|planes, _| transforms::normalize(planes))?;
    for preset in Augment::ALL {
        let drawn = dataset(preset)?;
        let mut planes = vec![0.0; drawn.image_len()];
        let mut spare = vec![];
        let work = |sample_idx| {
            let params = drawn.augment_params(0, sample_idx);
            transforms::augment_into(&params, &image.pixels, size, &mut planes, &mut spare);
            Ok(())
        };
        report(&format!("fused, {preset}"), each(Box::new(work))?);
    }
    Ok(())
}

fn dataset(preset: Augment) -> Result<Dataset> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/sample");
    let splits = Splits::read(format!("{sample}/splits"), &Schema::fairface())?;
    Dataset::open(splits.train, format!("{sample}/images"), &splits.encoders, Mode::train(preset, 1))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
