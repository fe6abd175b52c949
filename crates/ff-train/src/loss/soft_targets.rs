//! Cross-entropy against a distribution over the classes that the label alone decides.
//!
//! A table with a row a label says which distribution: that one table holds class weights, label smoothing and the
//! order of classes, so that one function computes them all. A label that is not known ([`ff_core::UNKNOWN`]) selects a
//! row of zeros: candle's `index_select` gives that for the largest index. So it counts in neither the sum nor the
//! weight.

use candle_core::{D, Device, Tensor};

use crate::Result;

/// For each label, the weighted distribution that logits are compared with.
#[derive(Debug, Clone)]
pub struct SoftTargets {
    /// (classes, classes): row = label, column = class; class weight times target probability.
    rows: Tensor,
    /// (classes,): the weight that a sample of this label has in the mean.
    norms: Tensor,
}

impl SoftTargets {
    /// One weight a class; `smoothing` of every target is spread over all classes alike
    /// (`torch.nn.CrossEntropyLoss(weight, label_smoothing)`).
    pub fn nominal(weights: &[f64], smoothing: f64, device: &Device) -> Result<Self> {
        Self::new(weights, smoothing, |label, class| if label == class { 1.0 } else { 0.0 }, device)
    }

    /// Targets that fall off with the distance of the classes' ranks: `softmax(-|rank(label) - rank(class)|)`, as Diaz
    /// and Marathe ("Soft labels for ordinal regression", CVPR 2019) with the absolute difference as metric. Then
    /// weights and smoothing as in [`SoftTargets::nominal`].
    pub fn ordinal(ranks: &[u32], weights: &[f64], smoothing: f64, device: &Device) -> Result<Self> {
        let closeness = |label: usize, class: usize| (-f64::from(ranks[label].abs_diff(ranks[class]))).exp();
        let sum = |label: usize| (0..ranks.len()).map(|class| closeness(label, class)).sum::<f64>();
        Self::new(weights, smoothing, |label, class| closeness(label, class) / sum(label), device)
    }

    fn new(
        weights: &[f64],
        smoothing: f64,
        target: impl Fn(usize, usize) -> f64,
        device: &Device,
    ) -> Result<Self> {
        let n = weights.len();
        let row = |label: usize| {
            let target = &target;
            let smooth = move |class| (1.0 - smoothing) * target(label, class) + smoothing / n as f64;
            (0..n).map(move |class| (weights[class] * smooth(class)) as f32)
        };
        let rows: Vec<f32> = (0..n).flat_map(row).collect();
        let norms: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        Ok(Self { rows: Tensor::from_vec(rows, (n, n), device)?, norms: Tensor::new(norms, device)? })
    }

    /// The parts of that mean: each sample's loss and its weight, (B,) both, 0 where the label is not known.
    ///
    /// # Errors
    /// As [`SoftTargets::cross_entropy`].
    pub fn of_samples(&self, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
        let losses = (log_probabilities * self.rows.index_select(labels, 0)?)?.sum(D::Minus1)?.neg()?;
        Ok((losses, self.norms.index_select(labels, 0)?))
    }

    /// The weighted mean cross-entropy over the labels that are known, 0 without any: logits (B, classes) f32, labels
    /// (B,) u32 -> scalar.
    ///
    /// # Errors
    /// Shapes that do not match, or a label that is not a class.
    pub fn cross_entropy(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
        let targets = self.rows.index_select(labels, 0)?;
        let weight = self.norms.index_select(labels, 0)?.sum_all()?.maximum(f32::MIN_POSITIVE)?;
        Ok((log_probabilities * targets)?.sum_all()?.neg()?.div(&weight)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::cross_entropy;

    const LOGITS: [[f32; 4]; 3] = [[2.0, -1.0, 0.5, 0.0], [0.3, 0.2, -0.1, 1.5], [-2.0, 0.0, 1.0, 0.7]];
    const LABELS: [u32; 3] = [0, 2, 3];
    const WEIGHTS: [f64; 4] = [0.5, 1.0, 2.0, 1.5];

    fn loss(table: &SoftTargets) -> f64 {
        let logits = Tensor::new(&LOGITS, &Device::Cpu).unwrap();
        let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap();
        f64::from(table.cross_entropy(&logits, &labels).unwrap().to_scalar::<f32>().unwrap())
    }

    /// Expected values: `tests/losses_golden.py`, PyTorch on the same logits.
    #[test]
    fn weighted_and_smoothed_losses_agree_with_pytorch() {
        for (weights, smoothing, expected) in [
            ([1.0; 4], 0.0, 1.195_302_367_210_388),
            ([1.0; 4], 0.1, 1.256_135_582_923_889),
            (WEIGHTS, 0.0, 1.530_896_663_665_771_5),
            (WEIGHTS, 0.1, 1.537_053_942_680_359),
        ] {
            let table = SoftTargets::nominal(&weights, smoothing, &Device::Cpu).unwrap();
            assert!((loss(&table) - expected).abs() < 1e-6, "{} vs {expected}", loss(&table));
        }
    }

    /// Expected value: `tests/losses_golden.py`; classes 0..4 have ranks 2, 0, 1, 3.
    #[test]
    fn ordinal_targets_follow_the_order_of_the_ranks() {
        let table = SoftTargets::ordinal(&[2, 0, 1, 3], &[1.0; 4], 0.0, &Device::Cpu).unwrap();
        let expected = 1.624_520_897_865_295_4;
        assert!((loss(&table) - expected).abs() < 1e-6, "{} vs {expected}", loss(&table));
    }

    /// The mean of the others, their gradients, and none where nothing is known.
    #[test]
    fn unknown_labels_count_in_neither_loss_nor_gradient() {
        let table = SoftTargets::nominal(&WEIGHTS, 0.1, &Device::Cpu).unwrap();
        let all = candle_core::Var::new(&LOGITS, &Device::Cpu).unwrap();
        let some = candle_core::Var::new(&[LOGITS[0], LOGITS[2]], &Device::Cpu).unwrap();
        let loss = |logits: &Tensor, labels: &[u32]| {
            table.cross_entropy(logits, &Tensor::new(labels, &Device::Cpu).unwrap()).unwrap()
        };
        let (with_hole, without) = (loss(&all, &[0, ff_core::UNKNOWN, 3]), loss(&some, &[0, 3]));
        assert_eq!(with_hole.to_scalar::<f32>().unwrap(), without.to_scalar::<f32>().unwrap());
        let gradient =
            |loss: &Tensor, of: &Tensor| loss.backward().unwrap().get(of).unwrap().to_vec2::<f32>().unwrap();
        let (found, expected) = (gradient(&with_hole, &all), gradient(&without, &some));
        assert_eq!([&found[0], &found[2]], [&expected[0], &expected[1]]);
        assert_eq!(found[1], [0.0; 4]);
        let nothing = loss(&all, &[ff_core::UNKNOWN; 3]);
        assert_eq!(nothing.to_scalar::<f32>().unwrap(), 0.0);
        assert!(gradient(&nothing, &all).concat().iter().all(|g| *g == 0.0));
    }

    #[test]
    fn without_weights_and_smoothing_it_is_the_plain_cross_entropy() {
        let table = SoftTargets::nominal(&[1.0; 4], 0.0, &Device::Cpu).unwrap();
        let logits = Tensor::new(&LOGITS, &Device::Cpu).unwrap();
        let plain = cross_entropy(&logits, &Tensor::new(&LABELS, &Device::Cpu).unwrap()).unwrap();
        assert!((loss(&table) - f64::from(plain.to_scalar::<f32>().unwrap())).abs() < 1e-6);
    }
}
