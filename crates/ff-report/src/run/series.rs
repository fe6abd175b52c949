//! The steps of a run, thinned: a report of 10^5 steps is no larger than one of 10^2.
//!
//! Steps are put together in buckets of equal size. Of each loss a bucket keeps mean, smallest and largest value, so
//! that no spike is lost; means are over images, not over batches.

use ff_core::PerTask;
use ff_train::records::StepRecord;
use serde::Serialize;

/// Most buckets of a series.
pub const MAX_BUCKETS: usize = 120;

/// Some steps in a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bucket {
    /// The first of its steps.
    pub first_step: u64,
    /// The last.
    pub last_step: u64,
    /// What is minimised.
    pub loss: Spread,
    /// Loss a task.
    pub losses: PerTask<Spread>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// The gradient's l2 norm, before clipping.
    pub grad_norm: Spread,
    /// The tasks' weights at the last step, where they are learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PerTask<f64>>,
    /// Training images a second.
    pub images_per_s: f64,
}

/// Values of some steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean over the images; it and the others are NaN where no step's value is a number.
    pub mean: f64,
    /// Smallest of the steps' values.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of no step at all.
    pub const NONE: Self = Self { mean: f64::NAN, min: f64::NAN, max: f64::NAN };
}

/// At most [`MAX_BUCKETS`] buckets, all but the last of the same number of steps.
pub fn thin(steps: &[StepRecord]) -> Vec<Bucket> {
    let size = steps.len().div_ceil(MAX_BUCKETS).max(1);
    steps.chunks(size).map(bucket).collect()
}

fn bucket(steps: &[StepRecord]) -> Bucket {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let images: f64 = steps.iter().map(|step| step.images as f64).sum();
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    Bucket {
        first_step: first.step,
        last_step: last.step,
        loss: spread(steps, |step| step.loss),
        losses: first
            .losses
            .each(|task, _| spread(steps, |step| *step.losses.get(task.as_str()).unwrap_or(&f64::NAN))),
        lr: last.lr,
        grad_norm: spread(steps, |step| step.grad_norm),
        weights: last.weights.clone(),
        images_per_s: if seconds > 0.0 { images / seconds } else { 0.0 },
    }
}

fn spread(steps: &[StepRecord], value: impl Fn(&StepRecord) -> f64) -> Spread {
    // Steps whose value is no number do not count; where all are such, neither is the mean, and the curve has a gap.
    let finite = || steps.iter().filter(|step| value(step).is_finite());
    let images: f64 = finite().map(|step| step.images as f64).sum();
    let sum: f64 = finite().map(|step| value(step) * step.images as f64).sum();
    let values = || finite().map(&value);
    if values().next().is_none() {
        return Spread::NONE;
    }
    Spread {
        mean: sum / images.max(1.0),
        min: values().fold(f64::INFINITY, f64::min),
        max: values().fold(f64::NEG_INFINITY, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(step: u64, loss: f64, images: usize) -> StepRecord {
        let losses = ff_core::Schema::fairface().per_task(|_| loss / 3.0);
        StepRecord {
            epoch: 1,
            step,
            loss,
            losses,
            lr: 1e-4,
            grad_norm: 1.0,
            weights: None,
            images,
            seconds: 0.1,
        }
    }

    proptest! {
        #[test]
        fn thinning_keeps_mean_extremes_and_every_step(
            losses in prop::collection::vec((0.1f64..9.0, 1usize..64), 1..900)
        ) {
            let steps: Vec<_> = losses.iter().zip(1..).map(|(&(loss, n), i)| step(i, loss, n)).collect();
            let buckets = thin(&steps);
            prop_assert!(buckets.len() <= MAX_BUCKETS);
            prop_assert_eq!(buckets[0].first_step, 1);
            prop_assert_eq!(buckets[buckets.len() - 1].last_step, steps.len() as u64);
            for pair in buckets.windows(2) {
                prop_assert_eq!(pair[0].last_step + 1, pair[1].first_step);
            }
            let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
            prop_assert_eq!(
                largest(&mut buckets.iter().map(|b| b.loss.max)),
                largest(&mut steps.iter().map(|s| s.loss))
            );
            let images = |bucket: &Bucket| {
                let range = bucket.first_step as usize - 1..bucket.last_step as usize;
                steps[range].iter().map(|s| s.images as f64).sum::<f64>()
            };
            let total: f64 = buckets.iter().map(|b| b.loss.mean * images(b)).sum();
            let expected: f64 = steps.iter().map(|s| s.loss * s.images as f64).sum();
            prop_assert!((total - expected).abs() < 1e-6 * expected);
        }
    }

    #[test]
    fn steps_without_a_number_leave_a_gap_and_no_other_step_out() {
        let buckets = thin(&[step(1, f64::NAN, 4), step(2, 2.0, 4), step(3, f64::INFINITY, 4)]);
        let means: Vec<f64> = buckets.iter().map(|bucket| bucket.loss.mean).collect();
        assert!(means[0].is_nan() && means[1] == 2.0 && means[2].is_nan(), "{means:?}");
        let together = bucket(&[step(1, f64::NAN, 4), step(2, 2.0, 4), step(3, 4.0, 4)]);
        assert_eq!(together.loss, Spread { mean: 3.0, min: 2.0, max: 4.0 });
    }

    #[test]
    fn no_steps_are_no_buckets() {
        assert_eq!(thin(&[]), vec![]);
    }
}
