//! Losses as pure functions of logits and targets.

use candle_core::Tensor;

use crate::Result;

/// Mean cross-entropy (`torch.nn.CrossEntropyLoss`): logits (B, classes) f32, targets (B,) u32 -> scalar.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::loss::cross_entropy(logits, targets)?)
}

/// The losses of all tasks, in the order of the heads, and their sum.
#[derive(Debug, Clone)]
pub struct MultiTaskLoss {
    /// Sum over tasks; what is differentiated.
    pub total: Tensor,
    /// One scalar a task.
    pub tasks: Vec<Tensor>,
}

/// The sum of every task's mean cross-entropy: logits (B, classes) and targets (B,) a task.
///
/// # Errors
/// Shapes that do not match, or a target that is not a class.
pub fn multi_task(logits: &[Tensor], targets: &[Tensor]) -> Result<MultiTaskLoss> {
    let tasks = logits.iter().zip(targets).map(|(l, t)| cross_entropy(l, t)).collect::<Result<Vec<_>>>()?;
    let mut total = tasks[0].clone();
    for task in &tasks[1..] {
        total = (total + task)?;
    }
    Ok(MultiTaskLoss { total, tasks })
}
