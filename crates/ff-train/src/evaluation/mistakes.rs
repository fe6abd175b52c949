//! The mistakes worth a look: the surest ones, and the pairs of classes that are mixed up most.

use ff_data::{Encoders, Task};
use serde::{Deserialize, Serialize};

use super::Predictions;
use crate::metrics::ConfusionMatrix;

/// A sample whose prediction is not its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The image, relative to the images folder.
    pub file: String,
    /// Its label.
    pub label: String,
    /// The prediction.
    pub predicted: String,
    /// Probability of the prediction.
    pub probability: f64,
    /// Probability of the label.
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

/// A task's mistakes with the highest probability, the surest first; at most `n`.
pub fn mistakes(predictions: &Predictions, encoders: &Encoders, task: Task, n: usize) -> Vec<Mistake> {
    let labels = encoders[task].labels();
    let mut wrong: Vec<_> = predictions
        .rows(task)
        .zip(predictions.predicted(task))
        .map(|((row, target), predicted)| (row, predicted as usize, target as usize))
        .zip(&predictions.files)
        .filter(|((_, predicted, target), _)| predicted != target)
        .collect();
    wrong.sort_by(|((a, i, _), _), ((b, j, _), _)| b[*j].total_cmp(&a[*i]));
    let mistake = |((row, predicted, target), file): ((&[f32], usize, usize), &String)| Mistake {
        file: file.clone(),
        label: labels[target].clone(),
        predicted: labels[predicted].clone(),
        probability: row[predicted].into(),
        label_probability: row[target].into(),
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
