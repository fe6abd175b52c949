//! ROC curves of groups, and the best point that all of them can reach together.

/// What one threshold comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Corner {
    /// Share of the negatives that are decided as positive.
    pub false_positives: f64,
    /// Share of the positives that are.
    pub true_positives: f64,
    /// Scores from this on are; `None` for none of them.
    pub at_least: Option<f64>,
}

/// A mixture of two thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mixture {
    pub thresholds: [Option<f64>; 2],
    /// Share of the samples that the second one decides.
    pub second: f64,
    pub false_positives: f64,
    pub true_positives: f64,
}

/// The upper convex hull of a ROC curve: what thresholds and mixtures of two reach, from (0, 0) to (1, 1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hull {
    corners: Vec<Corner>,
    /// Positives and negatives that it was made of.
    pub positives: f64,
    pub negatives: f64,
}

impl Hull {
    /// That of scores in [0, 1] and whether each is of a positive; `None` without samples of both kinds.
    pub fn new(mut samples: Vec<(f64, bool)>) -> Option<Self> {
        let positives = samples.iter().filter(|sample| sample.1).count();
        let negatives = samples.len() - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        let (positives, negatives) = (positives as f64, negatives as f64);
        samples.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut corners = vec![Corner { false_positives: 0.0, true_positives: 0.0, at_least: None }];
        let (mut above, mut seen) = ([0.0, 0.0], 0);
        for same in samples.chunk_by(|a, b| a.0 == b.0) {
            seen += same.len();
            for &(_, positive) in same {
                above[usize::from(positive)] += 1.0;
            }
            // Half way to the next score, as the next sample's may lie anywhere between.
            let at_least = samples.get(seen).map_or(0.0, |next| f64::midpoint(same[0].0, next.0));
            let corner = Corner {
                false_positives: above[0] / negatives,
                true_positives: above[1] / positives,
                at_least: Some(at_least),
            };
            while let [.., first, second] = &corners[..]
                && !is_above(first, second, &corner)
            {
                corners.pop();
            }
            corners.push(corner);
        }
        Some(Self { corners, positives, negatives })
    }

    pub fn corners(&self) -> &[Corner] {
        &self.corners
    }

    /// What has this false-positive rate and the highest true-positive rate.
    pub fn at_false_positives(&self, rate: f64) -> Mixture {
        let next = self.corners.partition_point(|corner| corner.false_positives <= rate);
        let (a, b) = self.around(next);
        let width = b.false_positives - a.false_positives;
        mixture(a, b, if width > 0.0 { (rate - a.false_positives) / width } else { 0.0 })
    }

    /// What has this true-positive rate and the lowest false-positive rate.
    pub fn at_true_positives(&self, rate: f64) -> Mixture {
        let next = self.corners.partition_point(|corner| corner.true_positives < rate);
        let (a, b) = self.around(next);
        let height = b.true_positives - a.true_positives;
        mixture(a, b, if height > 0.0 { (rate - a.true_positives) / height } else { 1.0 })
    }

    /// The corner before a place and the one at it, or an end of the hull twice.
    fn around(&self, next: usize) -> (&Corner, &Corner) {
        let last = self.corners.len() - 1;
        (&self.corners[next.saturating_sub(1)], &self.corners[next.min(last)])
    }
}

/// Whether the second of two corners lies above the line from the first to a third.
fn is_above(first: &Corner, second: &Corner, third: &Corner) -> bool {
    let run = |corner: &Corner| corner.false_positives - first.false_positives;
    let rise = |corner: &Corner| corner.true_positives - first.true_positives;
    run(second) * rise(third) < rise(second) * run(third)
}

fn mixture(a: &Corner, b: &Corner, second: f64) -> Mixture {
    let between = |a: f64, b: f64| a + (b - a) * second;
    Mixture {
        thresholds: [a.at_least, b.at_least],
        second,
        false_positives: between(a.false_positives, b.false_positives),
        true_positives: between(a.true_positives, b.true_positives),
    }
}

/// The true-positive rate at which all together are most often right, when all have it.
pub(super) fn best_true_positives(hulls: &[Hull]) -> f64 {
    // Every hull's false-positive rate is convex in it, so the best is at a corner of one.
    let corners = hulls.iter().flat_map(Hull::corners).map(|corner| corner.true_positives);
    let right = |rate: f64| {
        let of = |hull: &Hull| {
            hull.positives * rate - hull.negatives * hull.at_true_positives(rate).false_positives
        };
        hulls.iter().map(of).sum()
    };
    best(corners.collect(), right)
}

/// The false- and true-positive rate at which all together are most often right, when all have both.
pub(super) fn best_of_both(hulls: &[Hull]) -> (f64, f64) {
    let lowest = |x: f64| {
        hulls.iter().map(|hull| hull.at_false_positives(x).true_positives).fold(f64::INFINITY, f64::min)
    };
    let total = |of: fn(&Hull) -> f64| hulls.iter().map(of).sum::<f64>();
    let (positives, negatives) = (total(|hull| hull.positives), total(|hull| hull.negatives));
    let mut rates: Vec<f64> =
        hulls.iter().flat_map(Hull::corners).map(|corner| corner.false_positives).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    // The lowest of the hulls is concave, and straight between corners and crossings.
    let crossings = rates.windows(2).flat_map(|ends| crossings(hulls, ends[0], ends[1]));
    let candidates = rates.iter().copied().chain(crossings).collect();
    let x = best(candidates, |x| positives * lowest(x) - negatives * x);
    (x, lowest(x))
}

/// Where two hulls cross, between neighbouring corners.
fn crossings(hulls: &[Hull], from: f64, to: f64) -> Vec<f64> {
    let height = |x: f64| hulls.iter().map(move |hull| hull.at_false_positives(x).true_positives);
    let lines: Vec<(f64, f64)> = height(from).zip(height(to)).collect();
    let mut found = Vec::new();
    for (i, a) in lines.iter().enumerate() {
        for b in &lines[..i] {
            let (before, after) = (a.0 - b.0, a.1 - b.1);
            if before * after < 0.0 {
                found.push(from + (to - from) * before / (before - after));
            }
        }
    }
    found
}

/// The lowest candidate of the highest value.
fn best(mut candidates: Vec<f64>, value: impl Fn(f64) -> f64) -> f64 {
    candidates.sort_by(f64::total_cmp);
    let better = |best: (f64, f64), x: f64| {
        let value = value(x);
        if value > best.1 { (x, value) } else { best }
    };
    candidates.into_iter().fold((0.0, f64::NEG_INFINITY), better).0
}
