//! Whether the host has memory for a batch, before the system ends the process for it.

use ff_model::{Architecture, Precision};

use crate::config::{Config, DataConfig};
use crate::{Error, Result, machine};

/// What a batch is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Steps: forward and backward.
    Training,
    /// Answers only.
    Evaluation,
}

/// Batches that the host is to hold and to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlan {
    /// What they are made for.
    pub pass: Pass,
    /// By which backbone.
    pub backbone: Architecture,
    /// In which precision.
    pub precision: Precision,
    /// Height and width of the images.
    pub image_size: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Batches made ahead.
    pub prefetch: usize,
}

impl BatchPlan {
    /// What a configuration asks for.
    pub fn of(config: &Config, pass: Pass) -> Self {
        let DataConfig { image_size, batch_size, prefetch, .. } = config.data;
        let (backbone, precision) = (config.model.backbone, config.train.precision);
        Self { pass, backbone, precision, image_size, batch_size, prefetch }
    }

    /// Bytes that the fast engine keeps on the CPU for each image of a batch; the reference engine keeps more.
    const fn bytes_an_image(&self) -> u64 {
        let at_224 = match (self.pass, self.backbone, self.precision) {
            (Pass::Training, Architecture::Resnet34, Precision::F32 { .. }) => 26_000_000,
            (Pass::Training, Architecture::Resnet34, Precision::Bf16) => 12_600_000,
            (Pass::Training, Architecture::Resnet18, Precision::F32 { .. }) => 18_000_000,
            (Pass::Training, Architecture::Resnet18, Precision::Bf16) => 8_700_000,
            (Pass::Evaluation, _, Precision::F32 { .. }) => 4_400_000,
            (Pass::Evaluation, _, Precision::Bf16) => 2_100_000,
        };
        at_224 * (self.image_size * self.image_size) as u64 / (224 * 224)
    }
}

/// Refuses a batch that the host has no memory for; what a GPU has room for, its own errors say.
///
/// `rows` are all images that there are: no batch is larger.
///
/// # Errors
/// [`Error::Config`] says how much the batch needs, how much is free, and which batch fits.
pub fn check_room(plan: BatchPlan, rows: usize) -> Result<()> {
    match machine::free_memory() {
        Some(free) => check_room_in(free, plan, rows),
        None => Ok(()),
    }
}

fn check_room_in(free: u64, plan: BatchPlan, rows: usize) -> Result<()> {
    let BatchPlan { image_size, batch_size: batch, prefetch, .. } = plan;
    let pixels = 4 * 3 * (image_size * image_size) as u64;
    let batches_ahead = (prefetch as u64).saturating_add(1);
    let need = |batch: usize| {
        // No more batches are ahead than the rows make.
        let ahead = batches_ahead.saturating_mul(batch as u64).min(rows as u64);
        plan.bytes_an_image().saturating_mul(batch as u64).saturating_add(pixels.saturating_mul(ahead))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ff_kernels::cpu::plan::Plan;
    use ff_kernels::network::Mode;
    use ff_kernels::{Bf16, ThreadPool};

    use super::*;

    #[test]
    fn a_batch_that_cannot_fit_is_refused_with_one_that_does() {
        let check = |free, batch_size, rows| {
            let plan = BatchPlan { batch_size, ..plan(Pass::Training, Architecture::Resnet34, F32) };
            check_room_in(free, plan, rows).map_err(|e| e.to_string())
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

    const F32: Precision = Precision::F32 { tf32: false };

    fn plan(pass: Pass, backbone: Architecture, precision: Precision) -> BatchPlan {
        BatchPlan { pass, backbone, precision, image_size: 224, batch_size: 1, prefetch: 4 }
    }

    /// The estimate is what the engine's plan takes, and no more: a batch that fits must not be refused.
    #[test]
    fn what_a_batch_is_said_to_need_is_what_the_engine_takes() {
        let pool = Arc::new(ThreadPool::new(1));
        for (pass, mode) in [(Pass::Training, Mode::Train), (Pass::Evaluation, Mode::Infer)] {
            for backbone in Architecture::ALL {
                let config = backbone.config();
                let f32 = |n| Plan::<f32>::new(&config, n, 224, 224, Arc::clone(&pool), mode).bytes();
                let bf16 = |n| Plan::<Bf16>::new(&config, n, 224, 224, Arc::clone(&pool), mode).bytes();
                let slopes = [(F32, f32(6) - f32(2)), (Precision::Bf16, bf16(6) - bf16(2))];
                for (precision, slope) in slopes.map(|(precision, slope)| (precision, slope as u64 / 4)) {
                    let estimate = plan(pass, backbone, precision).bytes_an_image();
                    assert!(
                        estimate <= slope && slope < estimate * 5 / 4,
                        "{pass:?} {backbone} {precision}: {slope} bytes an image, not {estimate}"
                    );
                }
            }
        }
    }
}
