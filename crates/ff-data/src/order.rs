//! In which order an epoch visits the samples.

use ff_core::UNKNOWN;
use ff_core::random::{Purpose, generator, shuffle};

/// A permutation of `0..n`: shuffled by (seed, epoch) for training, the identity for evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochOrder {
    indices: Vec<u32>,
}

impl EpochOrder {
    /// `0, 1, ..., n - 1`.
    ///
    /// # Panics
    /// `n` does not fit in 32 bits.
    pub fn identity(n: usize) -> Self {
        let n = u32::try_from(n).expect("expected fewer than 2^32 samples");
        EpochOrder { indices: (0..n).collect() }
    }

    /// A Fisher-Yates shuffle that is a function of (n, seed, epoch) only.
    ///
    /// # Panics
    /// As [`EpochOrder::identity`].
    pub fn shuffled(n: usize, seed: u64, epoch: u64) -> Self {
        let mut order = Self::identity(n);
        let mut rng = generator(Purpose::Order, seed, epoch, 0);
        shuffle(&mut rng, &mut order.indices);
        order
    }

    /// As many places as there are samples, shared by their groups alike: of a large group an epoch visits some, of a
    /// small one each several times, as evenly as it goes. A sample of no group ([`UNKNOWN`]) is visited once. A
    /// function of (groups, seed, epoch) only.
    ///
    /// # Panics
    /// As [`EpochOrder::identity`].
    pub fn balanced(groups: &[u32], seed: u64, epoch: u64) -> Self {
        let identity = Self::identity(groups.len()).indices;
        let mut rng = generator(Purpose::Order, seed, epoch, 0);
        let mut members: Vec<Vec<u32>> = Vec::new();
        let mut indices = Vec::with_capacity(groups.len());
        for (index, &group) in identity.into_iter().zip(groups) {
            match group {
                UNKNOWN => indices.push(index),
                group => {
                    members.resize(members.len().max(group as usize + 1), Vec::new());
                    members[group as usize].push(index);
                }
            }
        }
        members.retain(|members| !members.is_empty());
        let places = groups.len() - indices.len();
        // What does not divide goes to other groups in every epoch.
        shuffle(&mut rng, &mut members);
        let n_groups = members.len();
        for (i, members) in members.iter_mut().enumerate() {
            let mut left = places / n_groups + usize::from(i < places % n_groups);
            while left > 0 {
                shuffle(&mut rng, members);
                let taken = left.min(members.len());
                indices.extend(&members[..taken]);
                left -= taken;
            }
        }
        shuffle(&mut rng, &mut indices);
        EpochOrder { indices }
    }

    /// All sample indices, in the order of their visit.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The sample indices of a batch; shorter at the end, empty beyond it.
    pub fn batch(&self, batch_idx: usize, batch_size: usize) -> &[u32] {
        let start = batch_idx.saturating_mul(batch_size).min(self.indices.len());
        let end = start.saturating_add(batch_size).min(self.indices.len());
        &self.indices[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_epochs_visit_every_group_alike_and_every_member_about_as_often() {
        // 60 of one group, 9 of another, 3 of a third, and 5 of none.
        let groups: Vec<u32> = [vec![1; 60], vec![4; 9], vec![0; 3], vec![UNKNOWN; 5]].concat();
        let of_group = |order: &EpochOrder, group: u32| {
            order.indices().iter().filter(|&&i| groups[i as usize] == group).count()
        };
        let mut visits = vec![0; groups.len()];
        for epoch in 0..50 {
            let order = EpochOrder::balanced(&groups, 7, epoch);
            assert_eq!(order, EpochOrder::balanced(&groups, 7, epoch));
            assert_eq!([1, 4, 0, UNKNOWN].map(|group| of_group(&order, group)), [24, 24, 24, 5]);
            let mut times = vec![0; groups.len()];
            order.indices().iter().for_each(|&i| times[i as usize] += 1);
            assert!(times[60..69].iter().all(|n| (2..=3).contains(n)), "{times:?}");
            assert!(
                times[69..72].iter().all(|n| *n == 8) && times[72..].iter().all(|n| *n == 1),
                "{times:?}"
            );
            visits.iter_mut().zip(times).for_each(|(sum, n)| *sum += n);
        }
        // 24 of 60 in 50 epochs: 20 each, and a member that is left out has a probability of 1e-11.
        assert!(visits[..60].iter().all(|n| (5..36).contains(n)), "{visits:?}");
        assert_ne!(EpochOrder::balanced(&groups, 7, 0), EpochOrder::balanced(&groups, 8, 0));
    }
}
