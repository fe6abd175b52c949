//! Confident learning: which labels are probably wrong (Northcutt, Jiang, Chuang, "Confident learning: estimating
//! uncertainty in dataset labels", 2021).
//!
//! A class's threshold is the mean probability that its own samples get for it. A sample is confidently of the most
//! probable class among those whose threshold it reaches; where that is not its label, the label is suspected. The
//! method wants probabilities of a model that has not seen the sample: on the training split it finds little. Where
//! predictions are labels without probabilities, nothing is suspected and no class has a threshold.

use ff_core::{Encoders, TaskName, argmax};
use serde::{Deserialize, Serialize};

use crate::predictions::Known;
use crate::{ConfusionMatrix, Predictions};

/// The suspected labels of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelErrors {
    /// Threshold of every class, by id; `None` for a class without samples, which no sample is confidently of.
    pub thresholds: Vec<Option<f64>>,
    /// Confident joint (classes, classes): row = label, column = class that a sample is confidently of.
    pub confident_joint: ConfusionMatrix,
    /// Number of suspected labels: the joint's sum off the diagonal.
    pub n_suspects: u64,
    /// The most suspect ones, the lowest margin first.
    pub suspects: Vec<Suspect>,
}

/// A suspected label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// The image, relative to the images folder.
    pub file: String,
    /// Its label.
    pub label: String,
    /// The class that it is confidently of.
    pub suggested: String,
    /// Probability of the label: the sample's self-confidence.
    pub label_probability: f64,
    /// Probability of the suggestion.
    pub suggested_probability: f64,
    /// Probability of the label less the largest of the other classes (the paper's normalised margin): in -1..=1.
    pub margin: f64,
}

/// Suspects a task's labels; at most `n` of them are listed.
pub fn label_errors(
    predictions: &Predictions,
    encoders: &Encoders,
    task: &TaskName,
    n: usize,
) -> LabelErrors {
    let labels = encoders[task].labels();
    let thresholds = match predictions.has_probabilities(task) {
        true => thresholds(predictions, task, labels.len()),
        false => vec![None; labels.len()],
    };
    let mut confident_joint = ConfusionMatrix::new(labels.len());
    let mut suspects = Vec::new();
    for Known { sample, row, target } in predictions.known(task) {
        let target = target as usize;
        let Some(class) = confident_class(row, &thresholds) else { continue };
        confident_joint.add(target, class);
        if class == target {
            continue;
        }
        let others = row.iter().enumerate().filter(|&(i, _)| i != target);
        let largest_other = others.map(|(_, &p)| f64::from(p)).fold(0.0, f64::max);
        suspects.push(Suspect {
            file: predictions.files[sample].clone(),
            label: labels[target].clone(),
            suggested: labels[class].clone(),
            label_probability: row[target].into(),
            suggested_probability: row[class].into(),
            margin: f64::from(row[target]) - largest_other,
        });
    }
    let n_suspects = suspects.len() as u64;
    suspects.sort_by(|a, b| a.margin.total_cmp(&b.margin));
    suspects.truncate(n);
    LabelErrors { thresholds, confident_joint, n_suspects, suspects }
}

/// Mean self-confidence of every class.
fn thresholds(predictions: &Predictions, task: &TaskName, n_classes: usize) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0u64); n_classes];
    for Known { row, target, .. } in predictions.known(task) {
        let (sum, n) = &mut sums[target as usize];
        *sum += f64::from(row[target as usize]);
        *n += 1;
    }
    sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect()
}

/// The most probable class among those whose threshold is reached.
fn confident_class(row: &[f32], thresholds: &[Option<f64>]) -> Option<usize> {
    let reached = |(&p, threshold): (&f32, &Option<f64>)| match threshold {
        Some(threshold) if f64::from(p) >= *threshold => p,
        _ => f32::NAN,
    };
    argmax(&row.iter().zip(thresholds).map(reached).collect::<Vec<_>>())
}
