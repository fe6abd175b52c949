//! `bench loader`: milliseconds a batch beside the decoder's floor, measured in the same run by the same number of
//! threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Result;
use ff_data::{ImageRules, Manifest, RgbImage, Splits, StageTimes, decode_into};
use ff_train::Config;
use ff_train::setup::train_loader;
use serde::Serialize;

use super::median;
use crate::output;

/// What the loader's time went into, and how near to the decoder it comes.
#[derive(Debug, Serialize)]
pub struct Breakdown {
    /// Microseconds an image, summed over workers.
    us_per_image: Stages,
    /// Milliseconds a batch, summed over workers; `wait` is the consumer's.
    ms_per_batch: Stages,
    /// Milliseconds that decoding a batch's files takes when nothing else is done, files in memory, with the same
    /// number of threads.
    decode_floor_ms: f64,
    /// The loader's time over the floor's.
    ratio_to_floor: f64,
    cache: &'static str,
    /// Images in the cache at the end.
    cached: usize,
    slots_made: usize,
}

#[derive(Debug, Serialize)]
struct Stages {
    read: f64,
    decode: f64,
    augment: f64,
    wait: f64,
}

/// Milliseconds from batch to batch, with nothing else to do meanwhile.
///
/// Turns of loader and decoder alternate, so that both see the same machine.
pub fn run(config: &Config, splits: Splits, steps: usize) -> Result<(Vec<f64>, Breakdown)> {
    let files = read_all(config, &splits.train)?;
    let mut loader = train_loader(config, splits.train, &splits.encoders)?;
    let batch_size = config.data.batch_size;
    // The first epoch fills the cache, and every slot.
    for batch in loader.epoch(0, 0) {
        batch?;
    }
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    let before = (loader.times(), loader.wait());
    let mut epoch = 0;
    while times.len() < steps {
        epoch += 1;
        let clock = Instant::now();
        let mut n = 0;
        for batch in loader.epoch(epoch, 0) {
            batch?;
            n += 1;
        }
        times.push(clock.elapsed().as_secs_f64() * 1e3 / f64::from(n));
        floors.push(decode_floor(&files, &config.data.rules(), config.data.workers, batch_size)?);
    }
    let spent = loader.times() - before.0;
    let wait = (loader.wait() - before.1).as_secs_f64();
    let stages = |per: f64| {
        let StageTimes { read, decode, augment, .. } = spent;
        let [read, decode, augment] = [read, decode, augment].map(|time| time.as_secs_f64() * per);
        Stages { read, decode, augment, wait: wait * per }
    };
    let images = spent.images.max(1) as f64;
    let floor = median(floors);
    let breakdown = Breakdown {
        us_per_image: stages(1e6 / images),
        ms_per_batch: stages(1e3 * batch_size as f64 / images),
        decode_floor_ms: floor,
        ratio_to_floor: median(times.clone()) / floor,
        cache: config.data.cache.name(),
        cached: loader.dataset().cache().map_or(0, ff_data::Cache::kept),
        slots_made: loader.slots_made(),
    };
    Ok((times, breakdown))
}

/// Enough files for the floor, in memory.
fn read_all(config: &Config, manifest: &Manifest) -> Result<Vec<Vec<u8>>> {
    let rows = manifest.rows().iter().take(1024);
    Ok(rows.map(|row| fs_err::read(config.data.images.join(&row.file))).collect::<Result<_, _>>()?)
}

/// Milliseconds to decode a batch's worth of files, twice over so that ends weigh less.
fn decode_floor(files: &[Vec<u8>], rules: &ImageRules, workers: usize, batch_size: usize) -> Result<f64> {
    const BATCHES: usize = 2;
    let next = AtomicUsize::new(0);
    let clock = Instant::now();
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut image = RgbImage::default();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= BATCHES * batch_size {
                    return Ok(());
                }
                decode_into(&files[i % files.len()], rules, &mut image)?;
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("decoding does not panic"))
    })?;
    Ok(clock.elapsed().as_secs_f64() * 1e3 / BATCHES as f64)
}

pub fn print(breakdown: &Breakdown) {
    let Stages { read, decode, augment, wait } = &breakdown.us_per_image;
    output::say!(
        "an image, over all workers: read {read:.0} us, decode {decode:.0} us, augment {augment:.0} us; \
         the consumer waits {wait:.0} us"
    );
    let Breakdown { decode_floor_ms: floor, ratio_to_floor: ratio, .. } = breakdown;
    output::say!("decoding alone {floor:.1} ms a batch: {ratio:.2} times the floor");
    if breakdown.cached > 0 {
        output::say!("{} images in the {} cache", breakdown.cached, breakdown.cache);
    }
}
