//! FairFace's released ResNet-34: one `fc` of 18 logits, brought to a projection and three heads.
//!
//! Rows of `fc` are race (7), gender (2), age (9), in the order of FairFace's `predict.py`. Class ids here are the
//! lexicographic order of the label strings, as everywhere in this project, so rows are permuted. `fc` reads the
//! embedding directly; this network has `relu(shared.0(embedding))` between. The embedding is a mean of ReLU outputs
//! and so never negative: with `shared.0` the identity the detour changes no bit.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ff_core::Schema;
use ff_core::labels::FAIRFACE_LABELS;

use super::TaskLabels;
use super::fit::{Values, problem};
use crate::{Error, Result};

/// Rows of `fc`.
const LOGITS: usize = 18;
/// Columns of `fc`: the embedding of FairFace's ResNet-34.
const EMBEDDING: usize = 512;

/// Whether a classifier weight is FairFace's.
pub(super) fn is_classifier(weight: &Tensor) -> bool {
    weight.dims() == [LOGITS, EMBEDDING]
}

/// One task's rows of `fc` under this project's class ids.
struct TaskRows {
    labels: TaskLabels,
    /// The row of `fc` behind each class id.
    rows: Vec<u32>,
}

/// The heads in this project's order of tasks: age, gender, race.
fn heads() -> Vec<TaskRows> {
    let mut heads = Vec::new();
    let mut first = 0;
    for (task, names) in FAIRFACE_LABELS {
        let mut rows: Vec<(&str, u32)> = names.iter().copied().zip(first..).collect();
        rows.sort_unstable();
        let labels = rows.iter().map(|(label, _)| (*label).to_owned()).collect();
        let task = Schema::fairface().task(task).expect("it is one of FairFace's").clone();
        let labels = TaskLabels { task, labels };
        heads.push(TaskRows { labels, rows: rows.into_iter().map(|(_, row)| row).collect() });
        first += names.len() as u32;
    }
    heads.sort_by(|a, b| a.labels.task.name.cmp(&b.labels.task.name));
    heads
}

/// What FairFace's classifier is in this network.
pub(super) struct Heads {
    /// Tasks and labels in the order of the heads.
    pub(super) labels: Vec<TaskLabels>,
    /// The tensors of projection and heads by name.
    pub(super) tensors: Vec<(String, Tensor)>,
}

/// Projection and heads from `fc.weight` (18,512) and `fc.bias` (18,); `path` only names the file in errors.
///
/// # Errors
/// A bias of another length, values that are no numbers: told here, where rows are still the file's.
pub(super) fn split_classifier(path: &Path, weight: &Tensor, bias: &Tensor) -> Result<Heads> {
    let mut problems = Vec::new();
    for (name, tensor, shape) in
        [("fc.weight", weight, &[LOGITS, EMBEDDING][..]), ("fc.bias", bias, &[LOGITS][..])]
    {
        problems.extend(problem(tensor, shape, Values::Any)?.map(|problem| format!("{name}: {problem}")));
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path.to_owned(), problems });
    }
    let mut tensors = vec![
        ("shared.0.weight".to_owned(), Tensor::eye(EMBEDDING, DType::F32, &Device::Cpu)?),
        ("shared.0.bias".to_owned(), Tensor::zeros(EMBEDDING, DType::F32, &Device::Cpu)?),
    ];
    let mut labels = Vec::new();
    for head in heads() {
        let rows = Tensor::new(head.rows, &Device::Cpu)?;
        let prefix = head.labels.head().prefix();
        tensors.push((format!("{prefix}.weight"), weight.index_select(&rows, 0)?));
        tensors.push((format!("{prefix}.bias"), bias.index_select(&rows, 0)?));
        labels.push(head.labels);
    }
    Ok(Heads { labels, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row i of `fc` has the bias i, so a head's bias says which rows it got.
    #[test]
    fn every_label_keeps_the_row_that_predict_py_reads_it_from() {
        let weight = Tensor::zeros((LOGITS, EMBEDDING), DType::F32, &Device::Cpu).unwrap();
        let bias: Vec<f32> = (0..LOGITS).map(|row| row as f32).collect();
        let bias = Tensor::new(bias, &Device::Cpu).unwrap();
        let Heads { labels, tensors } = split_classifier(Path::new("fairface.pt"), &weight, &bias).unwrap();
        let tasks: Vec<&str> = labels.iter().map(|l| l.task.name.as_str()).collect();
        assert_eq!(tasks, ["age", "gender", "race"]);
        let row = |task: &str, label: &str| {
            let (_, bias) = tensors.iter().find(|(name, _)| *name == format!("{task}_head.bias")).unwrap();
            let labels = &labels.iter().find(|l| l.task.name == task).unwrap().labels;
            let id = labels.iter().position(|l| l == label).unwrap();
            bias.to_vec1::<f32>().unwrap()[id]
        };
        // The numbers of predict.py, written out.
        for (task, label, expected) in [
            ("race", "White", 0.0),
            ("race", "Latino_Hispanic", 2.0),
            ("race", "Middle Eastern", 6.0),
            ("gender", "Male", 7.0),
            ("gender", "Female", 8.0),
            ("age", "0-2", 9.0),
            ("age", "3-9", 10.0),
            ("age", "10-19", 11.0),
            ("age", "more than 70", 17.0),
        ] {
            assert_eq!(row(task, label), expected, "{task} {label}");
        }
        for task in labels {
            assert!(task.labels.is_sorted(), "{task:?}");
        }
    }
}
