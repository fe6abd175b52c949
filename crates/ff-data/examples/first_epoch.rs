//! What keeping decoded images costs the epoch that fills the cache: `cargo run --release -p ff-data --example
//! first_epoch -- DIR [WORKERS] [ROUNDS]`, DIR being a folder on the disk in question.
//!
//! A loader that does nothing else goes through the sample once, in turns without a cache, with one in memory and with
//! an empty one on disk. Ratios are of medians.

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::{path::PathBuf, sync::Arc, time::Instant};

use ff_core::Schema;
use ff_data::{Augment, CacheSpec, Dataset, Loader, LoaderConfig, Manifest, Mode, Split};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("expected a folder for the cache, found nothing")?)
        .join("first_epoch");
    let workers = args.next().map_or(Ok(2), |n| n.parse())?;
    let rounds = args.next().map_or(Ok(15), |n| n.parse::<usize>())?;
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/sample");
    let manifest = Manifest::read(Split::Train.path(format!("{sample}/splits")), &Schema::fairface())?;
    let encoders = manifest.fit_encoders()?;
    let specs =
        [("none", CacheSpec::None), ("memory", CacheSpec::Memory), ("disk", CacheSpec::Disk(dir.clone()))];

    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds + 1 {
        for ((_, spec), times) in specs.iter().zip(&mut times) {
            let mode = Mode::train(Augment::Fast, round as u64);
            let dataset = Dataset::open(manifest.clone(), format!("{sample}/images"), &encoders, mode)?;
            let dataset = Arc::new(dataset.with_cache(spec)?);
            let mut loader = Loader::new(dataset, LoaderConfig::train(64).with_workers(workers))?;
            let start = Instant::now();
            for batch in loader.epoch(0, 0) {
                batch?;
            }
            times.push(start.elapsed().as_secs_f64() * 1e3);
            drop(loader);
            if dir.exists() {
                fs_err::remove_dir_all(&dir)?;
            }
        }
    }
    let median = |times: &[f64]| {
        let mut times = times[1..].to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let none = median(&times[0]);
    for ((name, _), times) in specs.iter().zip(&times) {
        println!("{name:>6}: {:7.1} ms an epoch, {:.2} of none", median(times), median(times) / none);
    }
    Ok(())
}
