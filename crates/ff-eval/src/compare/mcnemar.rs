//! McNemar's test, exact and by the chi-square distribution with Edwards's correction of continuity.

use ff_core::TaskName;
use ff_core::json::null_as_nan;
use serde::{Deserialize, Serialize};

use crate::Grouping;

/// Whether two sets of predictions are equally often right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// In which task.
    pub task: TaskName,
    /// What makes the groups, for a group.
    pub by: Option<Grouping>,
    /// In which group; `None` for all samples.
    pub group: Option<String>,
    /// Samples that both have right.
    pub both_right: u64,
    /// Samples that only the first has right.
    pub only_a: u64,
    /// Samples that only the second has right.
    pub only_b: u64,
    /// Samples that both have wrong.
    pub both_wrong: u64,
    /// Two-sided probability of a split at least as uneven, by the binomial distribution.
    pub exact_p: f64,
    /// (|only_a - only_b| - 1)^2 / (only_a + only_b); NaN, null in files, where both are always right or wrong
    /// together.
    #[serde(deserialize_with = "null_as_nan")]
    pub chi_square: f64,
    /// Probability of at least that, with one degree of freedom; NaN likewise.
    #[serde(deserialize_with = "null_as_nan")]
    pub chi_square_p: f64,
}

impl McNemar {
    /// Of counts (first right, second right).
    pub(super) fn new(
        task: TaskName,
        by: Option<Grouping>,
        group: Option<String>,
        [[both_wrong, only_b], [only_a, both_right]]: [[u64; 2]; 2],
    ) -> Self {
        let n = (only_a + only_b) as f64;
        let chi_square = (only_a.abs_diff(only_b) as f64 - 1.0).powi(2) / n;
        let (chi_square, chi_square_p) = match n > 0.0 {
            true => (chi_square, chi_square_tail(chi_square)),
            false => (f64::NAN, f64::NAN),
        };
        let exact_p = exact_p(only_a, only_b);
        Self { task, by, group, both_right, only_a, only_b, both_wrong, exact_p, chi_square, chi_square_p }
    }

    /// Samples.
    pub fn n(&self) -> u64 {
        self.both_right + self.only_a + self.only_b + self.both_wrong
    }
}

/// Twice the probability of at most the smaller count in that many tosses of a fair coin; 1 without tosses.
fn exact_p(a: u64, b: u64) -> f64 {
    let n = a + b;
    // By logarithms: 0.5^n underflows from 1,075 tosses on.
    let mut log_term = n as f64 * 0.5f64.ln();
    let mut sum = 0.0;
    for k in 0..=a.min(b) {
        sum += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

/// The probability that a chi-square variable of one degree of freedom is at least `x`: erfc(sqrt(x / 2)), by the
/// series of the incomplete gamma function P(1/2, x/2) below and the continued fraction of Q above (Press et al.,
/// "Numerical recipes", 6.2).
fn chi_square_tail(x: f64) -> f64 {
    const ENOUGH: usize = 500;
    let x = x / 2.0;
    if x <= 0.0 {
        return 1.0;
    }
    let scale = (-x).exp() * x.sqrt() / std::f64::consts::PI.sqrt();
    if x < 1.5 {
        let (mut term, mut sum, mut a) = (2.0, 2.0, 0.5);
        for _ in 0..ENOUGH {
            a += 1.0;
            term *= x / a;
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return 1.0 - scale * sum;
    }
    // Lentz's method.
    let mut b = x + 0.5;
    let (mut c, mut d) = (1.0 / f64::MIN_POSITIVE, 1.0 / b);
    let mut fraction = d;
    for i in 1..=ENOUGH {
        let i = i as f64;
        let numerator = -i * (i - 0.5);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    scale * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `tests/compare_golden.py`, statsmodels.
    #[test]
    fn both_tests_agree_with_statsmodels_for_few_and_for_many() {
        #[derive(Deserialize)]
        struct Golden {
            counts: Vec<(u64, u64, f64, f64, f64)>,
        }
        let golden: Golden = serde_json::from_str(include_str!("../../tests/compare_golden.json")).unwrap();
        let task = TaskName::new("age").unwrap();
        for (only_a, only_b, exact_p, chi_square, chi_square_p) in golden.counts {
            let found = McNemar::new(task.clone(), None, None, [[4, only_b], [only_a, 9]]);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs() + 1e-300;
            assert_eq!(
                (found.only_a, found.only_b, found.both_right, found.both_wrong),
                (only_a, only_b, 9, 4)
            );
            assert!(close(found.exact_p, exact_p), "{only_a} {only_b}: {} {exact_p}", found.exact_p);
            assert!(
                close(found.chi_square, chi_square),
                "{only_a} {only_b}: {} {chi_square}",
                found.chi_square
            );
            assert!(
                close(found.chi_square_p, chi_square_p),
                "{only_a} {only_b}: {} {chi_square_p}",
                found.chi_square_p
            );
        }
        let same = McNemar::new(task, None, None, [[4, 0], [0, 9]]);
        assert_eq!((same.exact_p, same.n()), (1.0, 13));
        assert!(same.chi_square.is_nan() && same.chi_square_p.is_nan());
    }
}
