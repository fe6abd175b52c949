//! Weights that make up for classes of unequal size.

use serde::{Deserialize, Serialize};

/// How classes are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All alike.
    #[default]
    None,
    /// By inverse frequency: `N / (classes * n)`, scikit-learn's `class_weight="balanced"`.
    Inverse,
    /// By the inverse of the effective number of samples `(1 - beta^n) / (1 - beta)` (Cui et al., "Class-balanced loss
    /// based on effective number of samples", CVPR 2019), scaled to a mean of 1 over the classes.
    Effective,
}

impl ClassWeights {
    /// One weight a class from the classes' sizes in the training split, none of them zero.
    pub fn of(self, counts: &[u64], beta: f64) -> Vec<f64> {
        let classes = counts.len() as f64;
        match self {
            Self::None => vec![1.0; counts.len()],
            Self::Inverse => {
                let n = counts.iter().sum::<u64>() as f64;
                counts.iter().map(|&count| n / (classes * count as f64)).collect()
            }
            Self::Effective => {
                let raw = counts.iter().map(|&count| (1.0 - beta) / (1.0 - beta.powf(count as f64)));
                let raw: Vec<f64> = raw.collect();
                let sum: f64 = raw.iter().sum();
                raw.iter().map(|weight| weight * classes / sum).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `tests/losses_golden.py`.
    #[test]
    fn weights_follow_their_definitions() {
        let counts = [10, 200, 3000];
        for (kind, expected) in [
            (ClassWeights::None, [1.0, 1.0, 1.0]),
            (ClassWeights::Inverse, [107.0, 5.35, 0.356_666_666_666_666_7]),
            (
                ClassWeights::Effective,
                [2.815_922_948_314_76, 0.154_577_718_963_715_8, 0.029_499_332_721_523_927],
            ),
        ] {
            for (weight, expected) in kind.of(&counts, 0.999).iter().zip(expected) {
                assert!((weight - expected).abs() < 1e-9, "{kind:?}: {weight} vs {expected}");
            }
        }
    }
}
