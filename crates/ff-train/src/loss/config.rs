//! `[loss]`: what is minimised.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ClassWeights;

/// `[loss]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weights of the classes.
    pub class_weights: ClassWeights,
    /// `beta` of the effective number of samples.
    pub effective_beta: f64,
    /// Share of every target that is spread over all classes.
    pub label_smoothing: f64,
    /// Whether losses of ordered tasks know the order. It was called `age` in version 0.1.
    pub ordered: OrderedLoss,
    /// Where the tasks' weights come from.
    pub task_weights: TaskWeighting,
    /// A model file or run whose answers on the training crops, not augmented, are learnt too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Share of the loss that the teacher's answers have.
    #[serde(default = "half")]
    pub distill: f64,
    /// Share of the loss that the answers of the weights' moving average have, on the same images (after Tarvainen and
    /// Valpola, "Mean teachers are better role models", NIPS 2017).
    #[serde(default)]
    pub self_distill: f64,
    /// What logits are divided by before both answers are compared.
    #[serde(default = "usual_temperature")]
    pub temperature: f64,
    /// Columns, tasks or others, whose groups are weighed by what they lose: [`super::GroupDro`].
    #[serde(default)]
    pub dro: Vec<String>,
    /// Step size of those weights.
    #[serde(default = "usual_dro_step")]
    pub dro_step: f64,
    /// Columns, tasks or others, whose groups are made independent of the labels by weights: [`super::reweighing`]. A
    /// task that is among them keeps its samples' weights.
    #[serde(default)]
    pub reweight: Vec<String>,
    /// Weight of each task's loss in the sum, where they are fixed; 1 where none is given.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
}

const fn half() -> f64 {
    0.5
}

/// As Hinton et al. and most since then.
const fn usual_temperature() -> f64 {
    4.0
}

/// As the authors' code.
const fn usual_dro_step() -> f64 {
    0.01
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            class_weights: ClassWeights::None,
            effective_beta: 0.999,
            label_smoothing: 0.0,
            ordered: OrderedLoss::Nominal,
            task_weights: TaskWeighting::Fixed,
            teacher: None,
            distill: half(),
            self_distill: 0.0,
            temperature: usual_temperature(),
            dro: Vec::new(),
            dro_step: usual_dro_step(),
            reweight: Vec::new(),
            weights: BTreeMap::new(),
        }
    }
}

/// What the loss of a task with an order compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderedLoss {
    /// The label alone.
    #[default]
    Nominal,
    /// The label and, less, its neighbours in the order: [`super::SoftTargets::ordinal`].
    Ordinal,
}

/// Where the tasks' weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskWeighting {
    /// `[loss.weights]`.
    #[default]
    Fixed,
    /// They are learnt: [`super::Uncertainty`].
    Uncertainty,
}
