//! Bootstrap intervals: how much a statistic moves when the samples are drawn anew, with replacement.
//!
//! Resample `b` is a function of (seed, b), so neither threads nor order change an interval. It knows no metric.

use std::num::NonZero;
use std::thread;

use ff_core::random::{Purpose, below, generator};
use serde::{Deserialize, Serialize};

use crate::Interval;

/// How often to draw, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of resamples; 0 leaves intervals out.
    pub resamples: u32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1,000 resamples from seed 42.
    fn default() -> Self {
        Self { resamples: 1000, seed: 42 }
    }
}

impl Bootstrap {
    /// 95 % percentile intervals (Efron, "Nonparametric standard errors and confidence intervals", 1981) of statistics
    /// of `n` samples. `statistics` gets how often each sample was drawn, (n,), and gives always equally many values;
    /// a resample in which a value is `None` does not count for it.
    ///
    /// The statistics here are largest differences, which resampling inflates: where groups differ little, the
    /// interval lies above the value itself.
    pub fn intervals(
        &self,
        n: usize,
        statistics: impl Fn(&[u32]) -> Vec<Option<f64>> + Sync,
    ) -> Vec<Option<Interval>> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let resamples: Vec<u32> = (0..self.resamples).collect();
        let share = resamples.len().div_ceil(threads).max(1);
        let values: Vec<Vec<Option<f64>>> = thread::scope(|scope| {
            let work = |part: &[u32]| part.iter().map(|&b| statistics(&self.draw(n, b))).collect::<Vec<_>>();
            let parts = resamples.chunks(share).map(|part| scope.spawn(move || work(part)));
            let parts: Vec<_> = parts.collect();
            parts.into_iter().flat_map(|part| part.join().expect("statistics do not panic")).collect()
        });
        let n_statistics = statistics(&vec![1; n]).len();
        let interval = |i: usize| percentile_interval(values.iter().filter_map(|value| value[i]).collect());
        (0..n_statistics).map(interval).collect()
    }

    /// How often each of `n` samples is in resample `b`, (n,).
    fn draw(&self, n: usize, b: u32) -> Vec<u32> {
        let mut rng = generator(Purpose::Bootstrap, self.seed, 0, u64::from(b));
        let mut times = vec![0; n];
        for _ in 0..n {
            times[below(&mut rng, n as u32) as usize] += 1;
        }
        times
    }
}

/// The 2.5 % and 97.5 % quantiles, interpolated linearly (numpy's default).
fn percentile_interval(mut values: Vec<f64>) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let place = q * (values.len() - 1) as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Some(Interval { low: quantile(0.025), high: quantile(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interval of a seed must not change with the version of a library.
    #[test]
    fn the_first_resamples_of_a_seed_stay_what_they_are() {
        let bootstrap = Bootstrap { resamples: 2, seed: 42 };
        assert_eq!([0, 1].map(|b| bootstrap.draw(8, b)), FROZEN);
    }

    const FROZEN: [[u32; 8]; 2] = [[0, 3, 1, 2, 0, 0, 1, 1], [1, 0, 0, 0, 3, 1, 1, 2]];
}
