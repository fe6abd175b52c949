//! Temperature scaling: one number a task that makes probabilities mean what they say (Guo et al., "On calibration of
//! modern neural networks", 2017).
//!
//! Logits are divided by the temperature, fitted on one set of samples by their negative log-likelihood and judged on
//! another. No prediction changes, only its confidence. Log-probabilities stand in for logits: softmax does not see
//! the difference, and the mean over several views of an image has no logits.

use std::path::PathBuf;

use ff_core::json::null_as_nan;
use ff_core::{Encoders, PerTask, TaskName};
use serde::{Deserialize, Serialize};

use crate::{Predictions, ReliabilityBin, TaskMetrics, softmax};

/// What temperature scaling does to every task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The CSV of the samples that the temperatures were fitted on.
    pub fitted_on: PathBuf,
    /// How many they were.
    pub n: usize,
    /// Figures a task, on the evaluated samples.
    pub tasks: PerTask<Calibrated>,
}

/// What temperature scaling does to one task. Temperature and figures are NaN, null in files, where there are no
/// probabilities, or no known labels to fit on or to judge by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// What logits are divided by: above 1 for a model that is too sure of itself.
    #[serde(deserialize_with = "null_as_nan")]
    pub temperature: f64,
    /// Expected calibration error after; the [`Evaluation`](crate::Evaluation) has all figures before.
    #[serde(deserialize_with = "null_as_nan")]
    pub ece: f64,
    /// Mean negative log-likelihood after.
    #[serde(deserialize_with = "null_as_nan")]
    pub nll: f64,
    /// Reliability curve after.
    pub reliability: Vec<ReliabilityBin>,
}

/// What logits are divided by before softmax.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Temperature(f64);

impl Temperature {
    /// Bounds of the fit, reached only where samples are all right or no better than chance.
    const RANGE: [f64; 2] = [0.01, 100.0];

    /// The temperature that minimises the mean negative log-likelihood of a task.
    ///
    /// In the inverse temperature the loss is convex, so its slope has one root: Newton's steps find it, and where one
    /// would leave the bracket, half of the bracket goes.
    ///
    /// NaN where there are no probabilities, or no known labels to fit on.
    pub fn fit(predictions: &Predictions, task: &TaskName) -> Self {
        let known = predictions.known(task).map(|known| (log(known.row), known.target as usize));
        let rows: Vec<_> = known.collect();
        if rows.is_empty() || !predictions.has_probabilities(task) {
            return Self(f64::NAN);
        }
        let [mut low, mut high] = [1.0 / Self::RANGE[1], 1.0 / Self::RANGE[0]];
        let mut inverse = 1.0;
        for _ in 0..100 {
            let (slope, curvature) = slope_and_curvature(&rows, inverse);
            if slope > 0.0 {
                high = inverse
            } else {
                low = inverse
            }
            let newton = inverse - slope / curvature;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            let step = (next - inverse).abs();
            inverse = next;
            if step <= 1e-12 * inverse {
                break;
            }
        }
        Self(1.0 / inverse)
    }

    /// Its value.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Probabilities (classes) as they are at this temperature.
    pub fn scale(self, probabilities: &[f32]) -> Vec<f32> {
        softmax(&log(probabilities).iter().map(|l| (l / self.0) as f32).collect::<Vec<_>>())
    }

    /// Judges this temperature on samples of one task.
    pub fn judge(self, predictions: &Predictions, encoders: &Encoders, task: &TaskName) -> Calibrated {
        let mut tally = predictions.empty_tally(encoders, task);
        if self.0.is_finite() {
            predictions.known(task).for_each(|known| tally.add(&self.scale(known.row), known.target));
        }
        let TaskMetrics { ece, nll, .. } = tally.metrics().unwrap_or(TaskMetrics::UNDEFINED);
        Calibrated { temperature: self.0, ece, nll, reliability: tally.reliability() }
    }
}

impl Calibration {
    /// Fits on one set of samples, from the CSV `fitted_on`, and judges on another.
    pub fn new(fitted_on: PathBuf, fit: &Predictions, judged: &Predictions, encoders: &Encoders) -> Self {
        let tasks = encoders.each(|task, _| Temperature::fit(fit, task).judge(judged, encoders, task));
        Self { fitted_on, n: fit.len(), tasks }
    }
}

/// Natural logarithms; the smallest normal float stands for zero, as in the metrics.
fn log(probabilities: &[f32]) -> Vec<f64> {
    probabilities.iter().map(|&p| f64::from(p.max(f32::MIN_POSITIVE)).ln()).collect()
}

/// First and second derivative of the summed negative log-likelihood by the inverse temperature: over samples, the sum
/// of the logits' mean less the target's logit, and that of their variance, both under the scaled probabilities.
fn slope_and_curvature(rows: &[(Vec<f64>, usize)], inverse: f64) -> (f64, f64) {
    rows.iter().fold((0.0, 0.0), |(slope, curvature), (logits, target)| {
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = logits.iter().map(|l| (inverse * (l - max)).exp());
        let (sum, first, second) =
            weights.zip(logits).fold((0.0, 0.0, 0.0), |(sum, first, second), (w, l)| {
                (sum + w, first + w * l, second + w * l * l)
            });
        let mean = first / sum;
        (slope + mean - logits[*target], curvature + second / sum - mean * mean)
    })
}
