//! Losses as pure functions of logits and targets, and what a run makes of them.
//!
//! [`multi_task`] is the plain sum of the tasks' cross-entropies. [`Objective`] is what `[loss]` asks for: class
//! weights, label smoothing, losses that know the order of classes, mixed targets, and weights of the tasks. Labels
//! that are not known count in none of them.

mod class_weights;
mod config;
mod distillation;
mod groups;
mod objective;
mod soft_targets;
mod step;
mod uncertainty;

use candle_core::{D, DType, Tensor};

pub use class_weights::ClassWeights;
pub use config::{LossConfig, OrderedLoss, TaskWeighting};
pub use distillation::{Teacher, soft_loss};
pub use groups::{GroupDro, GroupLosses, GroupWeights, reweighing};
pub use objective::{LossInput, Objective};
pub use soft_targets::SoftTargets;
pub use step::{LossValues, StepLosses};
pub use uncertainty::Uncertainty;

use crate::Result;

/// Mean cross-entropy over the targets that are known (`torch.nn.CrossEntropyLoss` with `ignore_index`), 0 without any:
/// logits (B, classes) f32, targets (B,) u32 -> scalar.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    // The largest index gathers 0.
    let picked = log_probabilities.gather(&targets.unsqueeze(1)?, 1)?;
    let known = targets.ne(ff_core::UNKNOWN)?.to_dtype(DType::F32)?.sum_all()?.maximum(1f32)?;
    Ok(picked.sum_all()?.neg()?.div(&known)?)
}

/// The losses of all tasks, in the order of the heads, and what is differentiated.
#[derive(Debug, Clone)]
pub struct MultiTaskLoss {
    /// Weighted sum over tasks; what is differentiated.
    pub total: Tensor,
    /// One scalar a task, before its weight.
    pub tasks: Vec<Tensor>,
    /// What each group loses, where groups are weighed by that.
    pub groups: Option<GroupLosses>,
}

/// The sum of every task's mean cross-entropy: logits (B, classes) and targets (B,) a task.
///
/// # Errors
/// Shapes that do not match, or a target that is not a class.
pub fn multi_task(logits: &[Tensor], targets: &[Tensor]) -> Result<MultiTaskLoss> {
    let tasks = logits.iter().zip(targets).map(|(l, t)| cross_entropy(l, t)).collect::<Result<Vec<_>>>()?;
    let total = weighted_sum(&tasks, &vec![1.0; tasks.len()])?;
    Ok(MultiTaskLoss { total, tasks, groups: None })
}

fn weighted_sum(losses: &[Tensor], weights: &[f64]) -> Result<Tensor> {
    let mut weighted = losses.iter().zip(weights).map(|(loss, &weight)| match weight {
        1.0 => Ok(loss.clone()),
        weight => loss * weight,
    });
    let first = weighted.next().expect("there are tasks")?;
    Ok(weighted.try_fold(first, |sum, loss| sum + loss?)?)
}
