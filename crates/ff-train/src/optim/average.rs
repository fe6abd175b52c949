//! The exponential moving average of the weights, and of BatchNorm's statistics with them.
//!
//! `average += (1 - decay) * (weights - average)` after every step. Early on the decay is lower, `(1 + t) / (10 + t)`
//! after `t` steps (as TensorFlow's `ExponentialMovingAverage` with `num_updates`), so that short runs forget where
//! they began.
//!
//! Or the plain mean of the weights at the ends of some epochs (stochastic weight averaging, [`Average::take_in`]). No
//! batch has passed through such weights: their statistics are those that training batches have in them, which is for
//! the caller to find ([`crate::learner::estimate_statistics`]).

use candle_core::Tensor;
use ff_model::Parameters;

use crate::Result;

/// Averaged parameters (N,) and statistics (M,).
#[derive(Debug)]
pub struct Average {
    /// `None` where whole epochs are averaged.
    decay: Option<f64>,
    values: Tensor,
    statistics: Tensor,
}

impl Average {
    /// Begins at the present parameters; with a decay it moves in every step.
    pub fn new(decay: Option<f64>, parameters: &Parameters) -> Result<Self> {
        let (values, statistics) = (parameters.values().copy()?, parameters.statistics().copy()?);
        Ok(Self { decay, values, statistics })
    }

    /// Whether it moves in every step.
    pub fn is_exponential(&self) -> bool {
        self.decay.is_some()
    }

    /// From the mean of `models` sets of weights to that of one more.
    pub fn take_in(&mut self, parameters: &Parameters, models: u64) -> Result<()> {
        follow(&self.values, parameters.values(), 1.0 - 1.0 / (models + 1) as f64)
    }

    /// The averaged parameters (N,).
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The decay at the `step`-th step, from 1.
    pub fn decay(&self, step: u64) -> f64 {
        self.decay.unwrap_or(1.0).min((1.0 + step as f64) / (10.0 + step as f64))
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
        let mut average = Average::new(Some(0.9), &parameters).unwrap();
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
    fn epochs_taken_in_are_averaged_alike() {
        let heads = [HeadSpec::new("age", 3)];
        let initialise =
            |seed| Parameters::initialise(Architecture::Resnet18, &heads, seed, &Device::Cpu).unwrap();
        let all = [1, 2, 3].map(initialise);
        let mut average = Average::new(None, &all[0]).unwrap();
        average.take_in(&all[1], 1).unwrap();
        average.take_in(&all[2], 2).unwrap();
        let found = average.values().to_vec1::<f32>().unwrap();
        let all = all.map(|parameters| parameters.values().to_vec1::<f32>().unwrap());
        for (i, found) in found.into_iter().enumerate() {
            let mean = all.iter().map(|values| f64::from(values[i])).sum::<f64>() / 3.0;
            // Rounded a few times, at the size of the values, which the mean may be far below.
            let largest = all.iter().map(|values| f64::from(values[i].abs())).fold(0.0, f64::max);
            let rounding = 4.0 * f64::from(f32::EPSILON) * largest;
            assert!((f64::from(found) - mean).abs() <= rounding, "{i}: {found} vs {mean}");
        }
    }

    #[test]
    fn early_steps_forget_faster() {
        let parameters =
            Parameters::initialise(Architecture::Resnet34, &[HeadSpec::new("age", 3)], 1, &Device::Cpu)
                .unwrap();
        let average = Average::new(Some(0.99), &parameters).unwrap();
        assert_eq!(average.decay(1), 2.0 / 11.0);
        assert_eq!(average.decay(10_000), 0.99);
    }
}
