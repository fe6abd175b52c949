//! `--batch-size auto`: the largest power of two that a GPU has room for, found by trying.
//!
//! An estimate says where to begin, as each try takes the seconds that the search for convolutions takes. What is found
//! is a number like any other from there on: the run folder records it, and a resumed run keeps it.
//!
//! On the CPU nothing is tried: what a batch needs at least is known, and one that cannot fit is refused before the
//! system ends the process for it.

use std::str::FromStr;

use candle_core::{DType, Tensor};
use ff_data::{ImageSize, Splits};
use ff_kernels::gpu::error::largest_batch;
use ff_kernels::gpu::{Element, Program};
use ff_kernels::network::Config as Network;
use ff_model::{DeviceSpec, Dropout, Engine, Precision};

use crate::config::Config;
use crate::config::ranges::BATCH_SIZE;
use crate::losses::multi_task;
use crate::optimizer::Optimizer;
use crate::setup::build_model;
use crate::trainer::optimizer_step;
use crate::{Error, Result, machine};

/// Images in a batch, as a flag says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// So many.
    Images(usize),
    /// As many as there is room for: [`find`].
    Auto,
}

impl BatchSize {
    /// The number, if it is one.
    pub fn images(self) -> Option<usize> {
        match self {
            Self::Images(n) => Some(n),
            Self::Auto => None,
        }
    }
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            s => match s.parse::<u64>() {
                Ok(n) if BATCH_SIZE.contains(&n) => Ok(Self::Images(n as usize)),
                _ => {
                    let (least, most) = BATCH_SIZE.into_inner();
                    Err(format!("expected a number from {least} to {most}, or auto, found `{s}`"))
                }
            },
        }
    }
}

/// The largest power of two that a training step and an evaluation of this configuration have room for.
///
/// # Errors
/// Another device or engine than those whose memory can be known; not even one image fits; what else goes wrong.
pub fn find(config: &Config) -> Result<usize> {
    let bad = |message: &str| Error::Config { origin: "--batch-size".into(), message: message.to_owned() };
    let (DeviceSpec::Cuda(_), Engine::Fast) = (config.train.device, config.train.engine) else {
        return Err(bad("expected a number, as auto needs --device cuda with --engine fast; found auto"));
    };
    let splits = config.data.read_splits()?;
    let most = splits.train.len();
    let free = machine::gpu(config.train.device)?.map_or(0, |gpu| gpu.free);
    let estimate = largest_batch(most + 1, free, |batch| arena_bytes(config.train.precision, batch));
    let fits = |batch| match try_once(config, &splits, batch) {
        Ok(()) => Ok(true),
        Err(e) if e.is_out_of_memory() => Ok(false),
        Err(e) => Err(e),
    };
    let found = largest(most, estimate.unwrap_or(1), fits)?;
    found.ok_or_else(|| bad("expected room on the GPU for a batch of one image, found none"))
}

/// The largest power of two up to `most` that `fits`, if any. It tries near `estimate` first, and expects that what is
/// smaller than a fit fits too.
pub fn largest<E>(
    most: usize,
    estimate: usize,
    mut fits: impl FnMut(usize) -> Result<bool, E>,
) -> Result<Option<usize>, E> {
    if most == 0 {
        return Ok(None);
    }
    let mut size = 1 << estimate.clamp(1, most).ilog2();
    if fits(size)? {
        while 2 * size <= most && fits(2 * size)? {
            size *= 2;
        }
        return Ok(Some(size));
    }
    while size > 1 {
        size /= 2;
        if fits(size)? {
            return Ok(Some(size));
        }
    }
    Ok(None)
}

/// What a batch is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Steps: forward and backward.
    Training,
    /// Answers only.
    Evaluation,
}

impl Pass {
    /// Bytes that the fast engine keeps for each image of a batch on the CPU; the reference engine keeps more.
    const fn bytes_an_image(self) -> u64 {
        match self {
            Self::Training => 26_000_000,
            Self::Evaluation => 8_500_000,
        }
    }
}

/// Refuses a batch that the host has no memory for; what a GPU has room for, its own errors say.
///
/// `rows` are all images that there are: no batch is larger.
///
/// # Errors
/// [`Error::Config`] says how much the batch needs, how much is free, and which batch fits.
pub fn check_room(pass: Pass, batch: usize, prefetch: usize, rows: usize) -> Result<()> {
    match machine::free_memory() {
        Some(free) => check_room_in(free, pass, batch, prefetch, rows),
        None => Ok(()),
    }
}

fn check_room_in(free: u64, pass: Pass, batch: usize, prefetch: usize, rows: usize) -> Result<()> {
    let pixels = 4 * 3 * ImageSize::DEFAULT.area() as u64;
    let batches_ahead = (prefetch as u64).saturating_add(1);
    let need = |batch: usize| {
        // No more batches are ahead than the rows make.
        let ahead = batches_ahead.saturating_mul(batch as u64).min(rows as u64);
        pass.bytes_an_image().saturating_mul(batch as u64).saturating_add(pixels.saturating_mul(ahead))
    };
    let batch = batch.min(rows);
    if need(batch) <= free {
        return Ok(());
    }
    let fitting =
        (0..usize::BITS).map(|power| 1usize << power).take_while(|&size| size <= batch && need(size) <= free);
    let advice = match fitting.last() {
        Some(size) => format!("{size} is the largest power of two that fits"),
        None => "not even one image fits".to_owned(),
    };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let message = format!(
        "a batch of {batch} needs at least {:.1} GiB of memory, and {:.1} GiB are free; {advice}",
        gib(need(batch)),
        gib(free)
    );
    Err(Error::Config { origin: "data.batch_size".to_owned(), message })
}

/// Bytes of activations for training and evaluation, beside what convolutions need to work in.
fn arena_bytes(precision: Precision, batch: usize) -> usize {
    let element = match precision {
        Precision::Bf16 => Element::Bf16,
        Precision::F32 { .. } => Element::F32,
    };
    let (network, ImageSize { height, width }) = (Network::resnet34(), ImageSize::DEFAULT);
    let train = Program::train(&network, element, batch, height, width).arena_len();
    train + Program::infer(&network, element, batch, height, width).arena_len()
}

/// Does once what a run does with a batch; twice, since the second time passes become graphs. Planes need as much room
/// as the slots that batches are uploaded to.
fn try_once(config: &Config, splits: &Splits, batch: usize) -> Result<()> {
    let mut model = build_model(config, &splits.encoders)?;
    let mut optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
    let ImageSize { height, width } = ImageSize::DEFAULT;
    let images = Tensor::zeros((batch, 3, height, width), DType::F32, model.device())?;
    let targets = Tensor::zeros(batch, DType::U32, model.device())?;
    let targets = vec![targets; model.heads().len()];
    for step in 1..=2 {
        let pass =
            model.forward_train(&images, Dropout { rate: config.model.dropout as f32, seed: 0, step })?;
        let loss = multi_task(&pass.logits, &targets)?.total;
        model.backward(&pass, &loss)?;
        optimizer_step(&mut model, &mut optimizer)?;
        for logits in model.predict(&images)?.logits {
            logits.to_vec2::<f32>()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use ff_kernels::cpu::base::threads::ThreadPool;
    use ff_kernels::cpu::plan::Plan;
    use ff_kernels::network::Mode;

    use super::*;

    /// What is found where batches up to `room` fit, and how often that was tried.
    fn search(most: usize, estimate: usize, room: usize) -> (Option<usize>, usize) {
        let mut tries = 0;
        let found = largest(most, estimate, |size| {
            assert!(size.is_power_of_two() && size <= most);
            tries += 1;
            Ok::<_, Infallible>(size <= room)
        });
        let Ok(found) = found;
        (found, tries)
    }

    #[test]
    fn wherever_the_search_begins_it_finds_the_largest_power_of_two() {
        for room in [1, 2, 3, 255, 256, 300, 4096] {
            for estimate in [0, 1, 7, 64, 256, 512, 100_000] {
                let (found, _) = search(1 << 20, estimate, room);
                assert_eq!(found, Some(1 << room.ilog2()), "room for {room}, estimate {estimate}");
            }
        }
    }

    #[test]
    fn a_good_estimate_saves_tries() {
        assert_eq!(search(1 << 20, 512, 600), (Some(512), 2));
        assert_eq!(search(1 << 20, 1024, 600), (Some(512), 2));
    }

    #[test]
    fn no_batch_is_larger_than_the_data() {
        assert_eq!(search(599, 4096, 1 << 20).0, Some(512));
        assert_eq!(search(1, 4096, 1 << 20).0, Some(1));
        assert_eq!(search(0, 1, 1), (None, 0));
        assert_eq!(search(599, 64, 0).0, None, "nothing fits");
    }

    #[test]
    fn a_batch_that_cannot_fit_is_refused_with_one_that_does() {
        let check = |free, batch, rows| {
            check_room_in(free, Pass::Training, batch, 4, rows).map_err(|e| e.to_string())
        };
        const GIB: u64 = 1 << 30;
        assert_eq!(check(4 * GIB, 32, 100_000), Ok(()));
        assert_eq!(check(4 * GIB, 65_536, 32), Ok(()), "there are only 32 images");
        assert_eq!(
            check(4 * GIB, 4096, 100_000).unwrap_err(),
            "data.batch_size: a batch of 4096 needs at least 110.7 GiB of memory, and 4.0 GiB are free; 128 is the largest \
             power of two that fits"
        );
        assert!(check(GIB / 100, 32, 100).unwrap_err().ends_with("not even one image fits"));
        assert!(check(GIB, usize::MAX, usize::MAX).is_err(), "nothing wraps");
    }

    /// The estimate is what the engine's plan takes, and no more: a batch that fits must not be refused.
    #[test]
    fn what_a_batch_is_said_to_need_is_what_the_engine_takes() {
        let pool = std::sync::Arc::new(ThreadPool::new(1));
        for (pass, mode) in [(Pass::Training, Mode::Train), (Pass::Evaluation, Mode::Infer)] {
            let bytes = |batch| {
                Plan::new(&Network::resnet34(), batch, 224, 224, std::sync::Arc::clone(&pool), mode).bytes()
            };
            let slope = (bytes(6) - bytes(2)) as u64 / 4;
            let estimate = pass.bytes_an_image();
            assert!(
                estimate <= slope && slope < estimate * 5 / 4,
                "{pass:?}: {slope} bytes an image, not {estimate}"
            );
        }
    }

    #[test]
    fn other_failures_end_the_search() {
        assert_eq!(largest(8, 8, |_| Err::<bool, _>("broken")), Err("broken"));
    }

    #[test]
    fn flags_are_numbers_or_auto() {
        assert_eq!("64".parse(), Ok(BatchSize::Images(64)));
        assert_eq!("auto".parse(), Ok(BatchSize::Auto));
        for bad in ["big", "0", "65537", "-1", "18446744073709551616", ""] {
            assert_eq!(
                bad.parse::<BatchSize>().unwrap_err(),
                format!("expected a number from 1 to 65536, or auto, found `{bad}`")
            );
        }
    }

    #[test]
    fn only_a_gpu_says_what_fits() {
        let message = find(&Config::default()).unwrap_err().to_string();
        assert!(message.contains("auto needs --device cuda"), "{message}");
    }
}
