//! Whether the host has memory for a batch, before the system ends the process for it.

use crate::{Error, Result, machine};

/// What a batch is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Steps: forward and backward.
    Training,
    /// Answers only.
    Evaluation,
}

impl Pass {
    /// Bytes that the fast engine keeps on the CPU for each image of a batch, of this height and width, with the least of
    /// the backbones; others and the reference engine keep more.
    const fn bytes_an_image(self, image_size: usize) -> u64 {
        let at_224 = match self {
            Self::Training => 26_000_000,
            Self::Evaluation => 8_500_000,
        };
        at_224 * (image_size * image_size) as u64 / (224 * 224)
    }
}

/// Refuses a batch that the host has no memory for; what a GPU has room for, its own errors say.
///
/// Images are `image_size` pixels high and wide, and `rows` all that there are: no batch is larger.
///
/// # Errors
/// [`Error::Config`] says how much the batch needs, how much is free, and which batch fits.
pub fn check_room(pass: Pass, image_size: usize, batch: usize, prefetch: usize, rows: usize) -> Result<()> {
    match machine::free_memory() {
        Some(free) => check_room_in(free, pass, image_size, batch, prefetch, rows),
        None => Ok(()),
    }
}

fn check_room_in(
    free: u64,
    pass: Pass,
    image_size: usize,
    batch: usize,
    prefetch: usize,
    rows: usize,
) -> Result<()> {
    let pixels = 4 * 3 * (image_size * image_size) as u64;
    let batches_ahead = (prefetch as u64).saturating_add(1);
    let need = |batch: usize| {
        // No more batches are ahead than the rows make.
        let ahead = batches_ahead.saturating_mul(batch as u64).min(rows as u64);
        pass.bytes_an_image(image_size)
            .saturating_mul(batch as u64)
            .saturating_add(pixels.saturating_mul(ahead))
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
    use ff_kernels::resnet::{Config as Network, Mode, Plan};
    use ff_kernels::threads::ThreadPool;

    use super::*;

    #[test]
    fn a_batch_that_cannot_fit_is_refused_with_one_that_does() {
        let check = |free, batch, rows| {
            check_room_in(free, Pass::Training, 224, batch, 4, rows).map_err(|e| e.to_string())
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
            let estimate = pass.bytes_an_image(224);
            assert!(
                estimate <= slope && slope < estimate * 5 / 4,
                "{pass:?}: {slope} bytes an image, not {estimate}"
            );
        }
    }
}
