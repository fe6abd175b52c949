//! Learning another model's answers.

use candle_core::{D, Device, Tensor};
use ff_core::{PerTask, TaskName};

use crate::Result;

/// What a teacher answers to every training sample.
#[derive(Debug, Clone)]
pub struct Teacher {
    /// Logits (N, classes) a task, on the host; of the tasks that it knows, classes in the run's order.
    pub logits: PerTask<Vec<Vec<f32>>>,
    /// SHA-256 of its weights.
    pub sha256: String,
}

impl Teacher {
    /// Its logits (B, classes) for these samples, (B,); `None` for a task that it does not know.
    pub fn answers(&self, task: &TaskName, rows: &[u32], device: &Device) -> Result<Option<Tensor>> {
        let Some(logits) = self.logits.get(task.as_str()) else { return Ok(None) };
        let answers: Vec<&[f32]> = rows.iter().map(|&row| logits[row as usize].as_slice()).collect();
        let shape = (rows.len(), answers.first().map_or(0, |row| row.len()));
        Ok(Some(Tensor::from_vec(answers.concat(), shape, device)?))
    }
}

/// The Kullback-Leibler divergence of the answers from the teacher's, logits (B, classes) both, at a temperature:
/// `T^2` times the mean of `sum of p log(p / q)` over the samples, which keeps its gradient's size at every
/// temperature (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015).
pub fn soft_loss(logits: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_softmax = |logits: &Tensor| candle_nn::ops::log_softmax(&(logits / temperature)?, D::Minus1);
    let (own, taught) = (log_softmax(logits)?, log_softmax(teacher)?.detach());
    let divergence = (taught.exp()? * (taught - own)?)?.sum(D::Minus1)?;
    Ok((divergence.mean_all()? * (temperature * temperature))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    /// Expected values: `tests/losses_golden.py`, `torch.nn.functional.kl_div` of the same logits.
    #[test]
    fn loss_and_gradient_are_pytorchs() {
        let own = [[2.0f32, -1.0, 0.5, 0.0], [0.3, 0.2, -0.1, 1.5], [-2.0, 0.0, 1.0, 0.7]];
        let taught = [[1.0f32, 0.0, 0.5, -1.0], [0.3, 0.2, -0.1, 1.5], [0.0, -1.0, 3.0, 0.5]];
        let (own, taught) =
            (Var::new(&own, &Device::Cpu).unwrap(), Tensor::new(&taught, &Device::Cpu).unwrap());
        for (temperature, expected, gradient) in [(1.0, KL_1.0, KL_1.1), (4.0, KL_4.0, KL_4.1)] {
            let loss = soft_loss(own.as_tensor(), &taught, temperature).unwrap();
            let found = loss.to_scalar::<f32>().unwrap();
            assert!((found - expected).abs() < 1e-6, "{temperature}: {found} vs {expected}");
            let grads = loss.backward().unwrap();
            let found = grads.get(&own).unwrap().to_vec2::<f32>().unwrap();
            for (found, expected) in found[0].iter().zip(gradient) {
                assert!((found - expected).abs() < 1e-6, "{temperature}: {found} vs {expected}");
            }
            assert!(found[1].iter().all(|g| g.abs() < 1e-7), "the same answer");
        }
    }

    const KL_1: (f32, [f32; 4]) = (0.218_906, [0.078_703_016, -0.046_339_24, -0.043_015_1, 0.010_651_301]);
    const KL_4: (f32, [f32; 4]) = (0.380_112_26, [0.073_993_21, -0.090_078_82, -0.028_793_564, 0.044_879_14]);
}
