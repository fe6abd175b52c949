//! The ranges that numbers have, whether a key or a flag gives them: far beyond use, and within what can be computed.

use std::ops::RangeInclusive;

/// Images in a batch.
pub const BATCH_SIZE: RangeInclusive<u64> = 1..=65_536;
/// Threads that decode, or hash.
pub const WORKERS: RangeInclusive<u64> = 1..=1024;
/// Threads that compute.
pub const THREADS: RangeInclusive<u64> = 1..=1024;
/// Passes over the training split; what counts epochs or steps between two things has the same range.
pub const EPOCHS: RangeInclusive<u64> = 1..=1_000_000;
/// Height and width of images for the network; multiples of 32 of these.
pub const IMAGE_SIZE: RangeInclusive<u64> = 64..=512;
/// Pixels of an image.
pub const MAX_PIXELS: RangeInclusive<u64> = 1..=u32::MAX as u64;
/// Length of an image file, in MiB.
pub const MAX_FILE_MIB: RangeInclusive<u64> = 1..=1 << 20;
/// Optimiser steps of a run: with the most epochs of the largest split far from the end of 64 bits.
pub const STEPS: RangeInclusive<u64> = 1..=1_000_000_000_000;
/// Seeds: TOML's whole numbers have a sign.
pub const SEED: RangeInclusive<u64> = 0..=i64::MAX as u64;
/// Seeds that are trained one after the other into one folder.
pub const SEEDS: RangeInclusive<u64> = 1..=1000;
/// Learning rates: about what f32 holds. A rate that is too high is for the run to notice.
pub const LEARNING_RATE: RangeInclusive<f64> = 1e-38..=1e39;
/// Resamples of a bootstrap.
pub const RESAMPLES: RangeInclusive<u64> = 0..=100_000;
/// What is added to a face's box on every side, in shares of it.
pub const PADDING: RangeInclusive<f64> = 0.0..=4.0;
/// How far crops are moved as a detector's are, in shares of what those are off by.
pub const ALIGN_JITTER: RangeInclusive<f64> = 0.0..=1.0;
/// Width of the smallest face, pixels.
pub const FACE_WIDTH: RangeInclusive<f64> = 1.0..=100_000.0;
/// Faces of a photo.
pub const FACES: RangeInclusive<u64> = 1..=100_000;
/// Sharpness of a face; noise has the most, 20.
pub const SHARPNESS: RangeInclusive<f64> = 0.0..=20.0;
/// The smallest share of an image that a random resized crop takes.
pub const RESIZED_CROP: RangeInclusive<f64> = 0.01..=1.0;
