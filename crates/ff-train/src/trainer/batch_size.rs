//! `--batch-size auto`: the largest power of two that a GPU has room for, found by trying.
//!
//! An estimate says where to begin, as each try takes the seconds that the search for convolutions takes. What is found
//! is a number like any other from there on: the run folder records it, and a resumed run keeps it.
//! On the CPU nothing is tried: see [`check_room`](crate::feed::check_room).

use std::str::FromStr;

use candle_core::{DType, Tensor};
use ff_data::Splits;
use ff_kernels::gpu::error::largest_batch;
use ff_kernels::gpu::{Element, Program};
use ff_model::{DeviceSpec, Dropout, Engine, Precision};

use crate::config::Config;
use crate::config::ranges::BATCH_SIZE;
use crate::loss::multi_task;
use crate::optim::{Optimizer, optimizer_step};
use crate::setup::build_model;
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
    let bad = |message: &str| Error::Config { origin: "data.batch_size".into(), message: message.to_owned() };
    let (DeviceSpec::Cuda(_), Engine::Fast) = (config.train.device, config.train.engine) else {
        return Err(bad("expected a number, as auto needs device cuda with engine fast; found auto"));
    };
    let splits = config.read_splits()?;
    let most = splits.train.len();
    let free = machine::gpu(config.train.device)?.map_or(0, |gpu| gpu.free);
    let estimate = largest_batch(most + 1, free, |batch| arena_bytes(config, batch));
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

/// Bytes of activations for training and evaluation, beside what convolutions need to work in.
fn arena_bytes(config: &Config, batch: usize) -> usize {
    let element = match config.train.precision {
        Precision::Bf16 => Element::Bf16,
        Precision::F32 { .. } => Element::F32,
    };
    let (network, size) = (config.model.backbone.config(), config.data.image_size);
    let train = Program::train(&network, element, batch, size, size).arena_len();
    train + Program::infer(&network, element, batch, size, size).arena_len()
}

/// Does once what a run does with a batch; twice, since the second time passes become graphs. Planes need as much room
/// as the slots that batches are uploaded to.
fn try_once(config: &Config, splits: &Splits, batch: usize) -> Result<()> {
    let mut model = build_model(config, &splits.encoders)?;
    let mut optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
    let size = config.data.image_size;
    let images = Tensor::zeros((batch, 3, size, size), DType::F32, model.device())?;
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
        assert!(message.contains("auto needs device cuda"), "{message}");
    }
}
