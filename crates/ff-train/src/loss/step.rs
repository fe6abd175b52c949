//! The losses of a step's batches, kept where they were computed until somebody asks.

use candle_core::Tensor;

use super::MultiTaskLoss;
use crate::Result;

/// The total and every task's loss, as values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LossValues {
    /// What is minimised.
    pub total: f64,
    /// One a task, before its weight, in the order of the heads; 0 where no label of the task was known.
    pub tasks: Vec<f64>,
}

/// Mean losses of batches, each with its number of images.
#[derive(Debug, Default)]
pub struct StepLosses {
    /// The total, then the tasks' losses: (1 + tasks,).
    parts: Vec<(Tensor, usize)>,
}

impl StepLosses {
    /// Adds a batch of `images` images.
    pub fn push(&mut self, loss: &MultiTaskLoss, images: usize) -> Result<()> {
        let all: Vec<Tensor> = std::iter::once(&loss.total).chain(&loss.tasks).map(Tensor::detach).collect();
        self.push_values(Tensor::stack(&all, 0)?, images);
        Ok(())
    }

    /// Adds a batch of `images` images with these losses (1 + tasks,) f32: the total, then the tasks'.
    pub fn push_values(&mut self, losses: Tensor, images: usize) {
        self.parts.push((losses, images));
    }

    /// The batches' losses (1 + tasks,) with their numbers of images.
    pub fn parts(&self) -> impl Iterator<Item = (&Tensor, usize)> {
        self.parts.iter().map(|(losses, images)| (losses, *images))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Batches.
    pub fn batches(&self) -> usize {
        self.parts.len()
    }

    /// Images of all batches.
    pub fn images(&self) -> usize {
        self.parts.iter().map(|(_, images)| images).sum()
    }

    /// The means over all images, in f64. Waits for the device that computes them.
    pub fn read(&self) -> Result<LossValues> {
        let n = self.images() as f64;
        let mut sums: Vec<f64> = Vec::new();
        for (losses, images) in &self.parts {
            let losses = losses.to_vec1::<f32>()?;
            sums.resize(losses.len(), 0.0);
            for (sum, loss) in sums.iter_mut().zip(losses) {
                *sum += f64::from(loss) * *images as f64;
            }
        }
        Ok(LossValues::new(sums.into_iter().map(|sum| sum / n)))
    }

    /// The same means as a tensor (1 + tasks,) f32 on the device; `None` without batches.
    pub fn mean(&self) -> Result<Option<Tensor>> {
        let n = self.images() as f64;
        let Some(((first, images), rest)) = self.parts.split_first() else { return Ok(None) };
        if rest.is_empty() {
            return Ok(Some(first.clone()));
        }
        let mut sum = (first * (*images as f64 / n))?;
        for (losses, images) in rest {
            sum = (sum + (losses * (*images as f64 / n))?)?;
        }
        Ok(Some(sum))
    }
}

impl LossValues {
    /// From the total and the tasks' losses, in this order; nothing is a total of 0.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values = values.into_iter();
        Self { total: values.next().unwrap_or(0.0), tasks: values.collect() }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn loss(total: f32) -> MultiTaskLoss {
        let scalar = |x: f32| Tensor::new(x, &Device::Cpu).unwrap();
        MultiTaskLoss {
            total: scalar(total),
            tasks: vec![scalar(total), scalar(0.5), scalar(0.25)],
            groups: None,
        }
    }

    #[test]
    fn batches_count_by_their_images_in_either_form() {
        let mut losses = StepLosses::default();
        assert!(losses.is_empty() && losses.mean().unwrap().is_none());
        losses.push(&loss(1.0), 6).unwrap();
        losses.push(&loss(4.0), 2).unwrap();
        let read = losses.read().unwrap();
        assert_eq!(read, LossValues::new([1.75, 1.75, 0.5, 0.25]));
        assert_eq!((losses.batches(), losses.images()), (2, 8));
        let mean: Vec<f32> = losses.mean().unwrap().unwrap().to_vec1().unwrap();
        assert_eq!(mean, [1.75, 1.75, 0.5, 0.25]);
    }
}
