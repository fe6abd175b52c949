//! Parsers of numbers that have a range: what lies outside is a usage error, which says the range.

use std::ops::RangeInclusive;

pub use ff_train::config::ranges::*;

/// Batches, or epochs, that a bench measures.
pub const BENCH_STEPS: RangeInclusive<u64> = 1..=100_000;
/// Rounds of a comparison.
pub const COMPARE_ROUNDS: RangeInclusive<u64> = 1..=1000;
/// Seconds that ranks wait for each other, or a process may take.
pub const TIMEOUT: RangeInclusive<u64> = 1..=86_400;
/// Milliseconds that a step takes.
pub const MILLISECONDS: RangeInclusive<f64> = 0.001..=1e9;
/// Height and width of images that a network is described for.
pub const SIDE: RangeInclusive<u64> = 32..=16_384;
/// Levels of the network's table.
pub const DEPTH: RangeInclusive<u64> = 1..=4;

/// Longest body of a request, MiB.
pub const BODY_MIB: RangeInclusive<u64> = 1..=1024;
/// Images that a server works on or has waiting.
pub const QUEUE: RangeInclusive<u64> = 1..=65_536;
/// Images in a server's batch: what one request waits for another.
pub const SERVED_BATCH: RangeInclusive<u64> = 1..=1024;
/// Connections of a server.
pub const CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
/// Seconds that a request may take.
pub const REQUEST_SECONDS: RangeInclusive<f64> = 0.001..=3600.0;

/// Parses whole numbers of this range, and of what `T` can hold of it.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Parses numbers of this range.
pub fn number(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| {
        // NaN is in no range.
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!("expected a number from {} to {}", short(*range.start()), short(*range.end()))
        })
    }
}

/// 4 for 4.0, 1e39 instead of forty digits.
fn short(number: f64) -> String {
    format!("{number:?}").trim_end_matches(".0").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_a_range_is_told_the_range() {
        let epochs = whole::<u64>(1..=10);
        assert_eq!(epochs("10"), Ok(10));
        for bad in ["0", "11", "-1", "1.5", "", " 1", "18446744073709551616", "NaN"] {
            assert_eq!(epochs(bad).unwrap_err(), "expected a whole number from 1 to 10");
        }
        let share = number(0.0..=4.0);
        assert_eq!(share("0.25"), Ok(0.25));
        for bad in ["-0.1", "4.1", "NaN", "inf", "-inf", "1e308", "", "x"] {
            assert_eq!(share(bad).unwrap_err(), "expected a number from 0 to 4");
        }
    }
}
