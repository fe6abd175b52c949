//! The exponential moving average of the weights, and of BatchNorm's statistics with them.
//!
//! `average += (1 - decay) * (weights - average)` after every step. Early on the decay is lower, `(1 + t) / (10 + t)`
//! after `t` steps (as TensorFlow's `ExponentialMovingAverage` with `num_updates`), so that short runs forget where
//! they began.

use candle_core::Tensor;
use ff_model::Parameters;

use crate::Result;

/// Averaged parameters (N,) and statistics (M,).
#[derive(Debug)]
pub struct Average {
    decay: f64,
    values: Tensor,
    statistics: Tensor,
}

impl Average {
    /// Begins at the present parameters.
    pub fn new(decay: f64, parameters: &Parameters) -> Result<Self> {
        let (values, statistics) = (parameters.values().copy()?, parameters.statistics().copy()?);
        Ok(Self { decay, values, statistics })
    }

    /// The averaged parameters (N,).
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The decay at the `step`-th step, from 1.
    pub fn decay(&self, step: u64) -> f64 {
        self.decay.min((1.0 + step as f64) / (10.0 + step as f64))
    }

    /// Moves the averaged statistics; the values move in the optimiser's pass.
    pub fn follow_statistics(&mut self, parameters: &Parameters, step: u64) -> Result<()> {
        follow(&self.statistics, parameters.statistics(), self.decay(step))
    }

    /// Exchanges the average and the parameters; a second time brings them back.
    pub fn swap(&mut self, parameters: &mut Parameters) -> Result<()> {
        parameters.update(|values, statistics| {
            for (average, raw) in [(&self.values, values), (&self.statistics, statistics)] {
                let kept = raw.copy()?;
                raw.slice_set(average, 0, 0)?;
                average.slice_set(&kept, 0, 0)?;
            }
            Ok(())
        })
    }
}

/// Moves `average` towards `values` in candle operations, on any device.
pub fn follow(average: &Tensor, values: &Tensor, decay: f64) -> Result<()> {
    let moved = (average + ((values - average)? * (1.0 - decay))?)?;
    Ok(average.slice_set(&moved, 0, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use ff_model::{Architecture, HeadSpec};

    #[test]
    fn swapping_twice_changes_nothing_and_once_exchanges() {
        let mut parameters =
            Parameters::initialise(Architecture::Resnet34, &[HeadSpec::new("age", 3)], 1, &Device::Cpu)
                .unwrap();
        let mut average = Average::new(0.9, &parameters).unwrap();
        let zeros = parameters.zero_gradient().unwrap();
        let before = parameters.values().copy().unwrap();
        parameters.update(|values, _| values.slice_set(&zeros, 0, 0)).unwrap();
        average.swap(&mut parameters).unwrap();
        let same = |a: &Tensor, b: &Tensor| a.to_vec1::<f32>().unwrap() == b.to_vec1::<f32>().unwrap();
        assert!(same(parameters.values(), &before) && same(average.values(), &zeros));
        average.swap(&mut parameters).unwrap();
        assert!(same(parameters.values(), &zeros) && same(average.values(), &before));
    }

    #[test]
    fn early_steps_forget_faster() {
        let parameters =
            Parameters::initialise(Architecture::Resnet34, &[HeadSpec::new("age", 3)], 1, &Device::Cpu)
                .unwrap();
        let average = Average::new(0.99, &parameters).unwrap();
        assert_eq!(average.decay(1), 2.0 / 11.0);
        assert_eq!(average.decay(10_000), 0.99);
    }
}
