//! The mistakes worth a look: the surest ones, and the pairs of classes that are mixed up most.

use ff_core::json::null_as_nan;
use ff_core::{Encoders, TaskName};
use serde::{Deserialize, Serialize};

use crate::predictions::Known;
use crate::{ConfusionMatrix, Predictions};

/// A sample whose prediction is not its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The image, relative to the images folder.
    pub file: String,
    /// Its label.
    pub label: String,
    /// The prediction.
    pub predicted: String,
    /// Probability of the prediction; NaN, null in files, where there are no probabilities.
    #[serde(deserialize_with = "null_as_nan")]
    pub probability: f64,
    /// Probability of the label; NaN likewise.
    #[serde(deserialize_with = "null_as_nan")]
    pub label_probability: f64,
}

/// Two classes that are mixed up, in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// The label.
    pub label: String,
    /// What is predicted instead.
    pub predicted: String,
    /// How often.
    pub n: u64,
    /// Share of the label's samples.
    pub share: f64,
}

/// A task's mistakes with the highest probability, the surest first; at most `n`. Without probabilities they are in the
/// order of the samples.
pub fn mistakes(predictions: &Predictions, encoders: &Encoders, task: &TaskName, n: usize) -> Vec<Mistake> {
    let labels = encoders[task].labels();
    let outcomes = predictions.known(task).map(|known| (known.predicted(), known));
    let mut wrong: Vec<(u32, Known)> =
        outcomes.filter(|(predicted, known)| *predicted != known.target).collect();
    let sureness = |(predicted, known): &(u32, Known)| known.row[*predicted as usize];
    wrong.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
    let probability = |known: &Known, class: u32| match predictions.has_probabilities(task) {
        true => known.row[class as usize].into(),
        false => f64::NAN,
    };
    let mistake = |(predicted, known): (u32, Known)| Mistake {
        file: predictions.files[known.sample].clone(),
        label: labels[known.target as usize].clone(),
        predicted: labels[predicted as usize].clone(),
        probability: probability(&known, predicted),
        label_probability: probability(&known, known.target),
    };
    wrong.into_iter().take(n).map(mistake).collect()
}

/// The pairs of label and wrong prediction that occur most often, from counts; at most `n`.
pub fn top_confusions(counts: &ConfusionMatrix, labels: &[String], n: usize) -> Vec<Confusion> {
    let of_label = counts.by_label();
    let wrong = counts.cells().filter(|(label, predicted, _)| label != predicted);
    let pairs = wrong.map(|(label, predicted, n)| Confusion {
        label: labels[label].clone(),
        predicted: labels[predicted].clone(),
        n,
        share: n as f64 / of_label[label] as f64,
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.n));
    pairs.truncate(n);
    pairs
}
