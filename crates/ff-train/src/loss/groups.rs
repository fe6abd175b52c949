//! Losses that know groups of samples: group DRO, and weights that make groups and labels independent.

use ff_core::UNKNOWN;
use ff_core::random::exp;
use serde::{Deserialize, Serialize};

/// Group distributionally robust optimisation (Sagawa et al., "Distributionally robust neural networks for group
/// shifts", ICLR 2020, algorithm 1): what is minimised is the groups' mean losses by weights that grow where a group's
/// loss is high.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupDro {
    /// The weights' step size.
    step: f64,
    /// A sample's group, (N,); [`UNKNOWN`] is in none, and in no loss.
    ids: Vec<u32>,
    weights: GroupWeights,
}

/// A weight a group; they add up to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupWeights {
    /// The groups.
    pub names: Vec<String>,
    /// Their weights.
    pub weights: Vec<f64>,
}

/// What a batch's groups lose on average, each; NaN for a group that has nobody in it.
pub type GroupLosses = Vec<f64>;

impl GroupDro {
    /// All groups weigh the same.
    pub fn new(step: f64, ids: Vec<u32>, names: Vec<String>) -> Self {
        let weights = vec![1.0 / names.len() as f64; names.len()];
        Self { step, ids, weights: GroupWeights { names, weights } }
    }

    /// The weights now.
    pub fn weights(&self) -> &GroupWeights {
        &self.weights
    }

    /// Takes on saved weights, if they are of the same groups.
    pub fn restore(&mut self, saved: GroupWeights) {
        if saved.names == self.weights.names {
            self.weights = saved;
        }
    }

    /// The groups of these samples.
    pub fn of(&self, rows: &[u32]) -> Vec<u32> {
        rows.iter().map(|&row| self.ids[row as usize]).collect()
    }

    /// The weights after a batch, which that batch itself is weighed by.
    pub fn after(&self, losses: &GroupLosses) -> Vec<f64> {
        let grown = self.weights.weights.iter().zip(losses);
        let grown =
            grown.map(|(weight, &loss)| weight * if loss.is_nan() { 1.0 } else { exp(self.step * loss) });
        let grown: Vec<f64> = grown.collect();
        let sum: f64 = grown.iter().sum();
        grown.iter().map(|weight| weight / sum).collect()
    }

    /// Moves the weights on by a batch.
    pub fn step(&mut self, losses: &GroupLosses) {
        self.weights.weights = self.after(losses);
    }

    /// Of samples with these groups, losses and weights (B,): what each group loses on average.
    pub fn means(&self, groups: &[u32], losses: &[f32], weights: &[f32]) -> GroupLosses {
        self.sums(groups, losses)
            .iter()
            .zip(self.sums(groups, weights))
            .map(|(sum, weight)| sum / weight)
            .collect()
    }

    /// Sums of values (B,) a group.
    pub fn sums(&self, groups: &[u32], values: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.weights.weights.len()];
        for (&group, &value) in groups.iter().zip(values).filter(|(group, _)| **group != UNKNOWN) {
            sums[group as usize] += f64::from(value);
        }
        sums
    }
}

/// A weight a sample that makes its group and its label independent in the weighted data: `n(group) n(label) / (n
/// n(group, label))` (Kamiran and Calders, "Data preprocessing techniques for classification without discrimination",
/// 2012; AIF360's `Reweighing`). 1 where either is not known, which counts nowhere.
pub fn reweighing(groups: &[u32], labels: &[u32]) -> Vec<f32> {
    let known =
        || groups.iter().zip(labels).filter(|(group, label)| **group != UNKNOWN && **label != UNKNOWN);
    let size = |ids: &mut dyn Iterator<Item = u32>| ids.max().map_or(0, |id| id as usize + 1);
    let n_groups = size(&mut known().map(|(group, _)| *group));
    let n_labels = size(&mut known().map(|(_, label)| *label));
    let (mut of_group, mut of_label) = (vec![0.0; n_groups], vec![0.0; n_labels]);
    let (mut of_both, mut n) = (vec![0.0; n_groups * n_labels], 0.0);
    for (&group, &label) in known() {
        let (group, label) = (group as usize, label as usize);
        of_group[group] += 1.0;
        of_label[label] += 1.0;
        of_both[group * n_labels + label] += 1.0;
        n += 1.0;
    }
    let weight = |(&group, &label): (&u32, &u32)| {
        if group == UNKNOWN || label == UNKNOWN {
            return 1.0;
        }
        let (group, label) = (group as usize, label as usize);
        (of_group[group] * of_label[label] / (n * of_both[group * n_labels + label])) as f32
    };
    groups.iter().zip(labels).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `tests/losses_golden.py`, the counts of a table in pandas.
    #[test]
    fn weights_make_groups_and_labels_independent() {
        let (groups, labels) = ([0, 0, 0, 1, 1, UNKNOWN, 0], [0, 0, 1, 1, 1, 0, UNKNOWN]);
        let found = reweighing(&groups, &labels);
        let expected = [0.6, 0.6, 1.8, 0.6, 0.6, 1.0, 1.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} vs {expected}");
        }
    }

    /// Expected values: `tests/losses_golden.py`, after `LossComputer` of the authors.
    #[test]
    fn weights_of_groups_move_as_the_authors_do() {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut dro = GroupDro::new(0.5, vec![0, 1, 2, UNKNOWN], names);
        assert_eq!(dro.of(&[3, 2, 0]), [UNKNOWN, 2, 0]);
        for losses in [[1.0, 0.2, f64::NAN], [0.5, 2.0, 0.1]] {
            dro.step(&losses.to_vec());
        }
        let expected = [0.342_976_359_2, 0.486_706_621_3, 0.170_317_019_5];
        for (found, expected) in dro.weights().weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{:?}", dro.weights());
        }
        let means = dro.means(&[0, 0, UNKNOWN, 2], &[1.0, 2.0, 9.0, 4.0], &[1.0, 2.0, 1.0, 2.0]);
        assert!(means[0] == 1.0 && means[1].is_nan() && means[2] == 2.0, "{means:?}");
    }
}
