//! How many rows of each stratum each split gets: a controlled rounding of a table (Bacharach, "Matrix rounding
//! problems", Management Science 1966; Cox, JASA 1987).
//!
//! Two margins hold at once: every split's total is that of [`totals`], and every count is its share rounded down or
//! up, so that a share without a fraction is met exactly. All arithmetic is on integers: every machine gets the same.

use super::Ratios;

/// Rows a split in all, by largest remainder: 97,698 rows at 75/15/10 are 73,273, 14,655 and 9,770.
pub(super) fn totals(n: usize, ratios: &Ratios) -> [usize; 3] {
    let mut total = Shares::new(n, ratios);
    total.round_by_largest_remainder();
    total.counts()
}

/// `(S)` rows a stratum -> `(S,3)` rows a stratum and split.
///
/// Every stratum is first rounded by largest remainder, which leaves the splits' totals off by a few. Then, one row at
/// a time, a split with too many hands one over to a split with too few: in a stratum that was rounded up here and
/// down there, or in two strata by way of the third split. Each hand-over brings two totals nearer, so it ends. That
/// there always is one: the roundings up form a bipartite matching of strata to splits, and as long as the totals are
/// wrong and a right matching exists, an alternating path leads to a better one; with three splits it has at most two
/// hand-overs. A right matching exists by Gale's condition: a stratum of integer size with any fraction has at least
/// two, and rounds up at least one and not all of them, so no single split and no two of them can ask for more than
/// the strata have to give.
pub(super) fn quotas(strata: &[usize], ratios: &Ratios) -> Vec<[usize; 3]> {
    let mut table: Vec<Shares> = strata.iter().map(|&n| Shares::new(n, ratios)).collect();
    table.iter_mut().for_each(Shares::round_by_largest_remainder);
    let totals = totals(strata.iter().sum(), ratios).map(|total| total as i64);
    let mut excess = totals.map(|total| -total);
    for shares in &table {
        for (excess, count) in excess.iter_mut().zip(shares.counts()) {
            *excess += count as i64;
        }
    }
    while excess != [0; 3] {
        let path = path(&table, &excess).expect("a right rounding exists, so a path leads nearer to it");
        for hand_over in &path {
            table[hand_over.stratum].up[hand_over.from] = false;
            table[hand_over.stratum].up[hand_over.to] = true;
            excess[hand_over.from] -= 1;
            excess[hand_over.to] += 1;
        }
    }
    table.iter().map(Shares::counts).collect()
}

/// A stratum's shares: whole rows, fractions in millionths, and which are rounded up.
struct Shares {
    whole: [usize; 3],
    fraction: [u64; 3],
    up: [bool; 3],
}

impl Shares {
    fn new(n: usize, ratios: &Ratios) -> Self {
        let exact = ratios.0.map(|ratio| n as u64 * u64::from(ratio));
        let one = u64::from(Ratios::ONE);
        Shares {
            whole: exact.map(|share| (share / one) as usize),
            fraction: exact.map(|share| share % one),
            up: [false; 3],
        }
    }

    /// Rounds up the largest fractions; of equal ones, those of the later split, which is the smaller as a rule.
    fn round_by_largest_remainder(&mut self) {
        let left = self.fraction.iter().sum::<u64>() / u64::from(Ratios::ONE);
        for _ in 0..left {
            let rest = (0..3).filter(|&split| !self.up[split]);
            let largest = rest.max_by_key(|&split| self.fraction[split]).expect("fewer than three are left");
            self.up[largest] = true;
        }
    }

    fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|split| self.whole[split] + usize::from(self.up[split]))
    }

    /// What a row's move costs: how much nearer its share the giving split was. `None` if one of the two could then be
    /// off by more than a rounding.
    fn cost(&self, from: usize, to: usize) -> Option<i64> {
        let can = self.up[from] && !self.up[to] && self.fraction[to] > 0;
        can.then(|| self.fraction[from] as i64 - self.fraction[to] as i64)
    }
}

struct HandOver {
    stratum: usize,
    from: usize,
    to: usize,
}

/// The shortest way of one row from a split with too many to one with too few.
fn path(table: &[Shares], excess: &[i64; 3]) -> Option<Vec<HandOver>> {
    let cheapest = |from: usize, to: usize| {
        let costs =
            table.iter().enumerate().filter_map(|(stratum, shares)| Some((shares.cost(from, to)?, stratum)));
        costs.min().map(|(_, stratum)| HandOver { stratum, from, to })
    };
    let ends = || {
        let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to)));
        pairs.filter(|&(from, to)| excess[from] > 0 && excess[to] < 0)
    };
    let direct = ends().find_map(|(from, to)| Some(vec![cheapest(from, to)?]));
    direct.or_else(|| {
        ends().find_map(|(from, to)| {
            let third = 3 - from - to;
            Some(vec![cheapest(from, third)?, cheapest(third, to)?])
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ratios() -> impl Strategy<Value = Ratios> {
        let cuts = prop_oneof![
            (0..=Ratios::ONE, 0..=Ratios::ONE),
            // Round numbers: many shares without a fraction.
            (0..=20_u32, 0..=20_u32).prop_map(|(a, b)| (a * (Ratios::ONE / 20), b * (Ratios::ONE / 20))),
        ];
        cuts.prop_map(|(a, b)| {
            let (low, high) = (a.min(b), a.max(b));
            Ratios([low, high - low, Ratios::ONE - high])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn both_margins_hold(strata in prop::collection::vec(0..60_usize, 0..40), ratios in ratios()) {
            let quotas = quotas(&strata, &ratios);
            for (&n, quota) in strata.iter().zip(&quotas) {
                prop_assert_eq!(quota.iter().sum::<usize>(), n);
                for (&count, &ratio) in quota.iter().zip(&ratios.0) {
                    let off = count as i64 * i64::from(Ratios::ONE) - n as i64 * i64::from(ratio);
                    prop_assert!(off.abs() < i64::from(Ratios::ONE), "{quota:?} of {n} at {ratios:?}");
                }
            }
            let n = strata.iter().sum();
            let sums = [0, 1, 2].map(|split| quotas.iter().map(|quota| quota[split]).sum::<usize>());
            prop_assert_eq!(sums, totals(n, &ratios));
        }
    }

    #[test]
    fn fairface_has_the_notebooks_totals() {
        let ratios = Ratios::new([0.75, 0.15, 0.10]).unwrap();
        assert_eq!(totals(86_744 + 10_954, &ratios), [73_273, 14_655, 9_770]);
    }
}
