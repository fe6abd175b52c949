//! Where an axis has its ticks, and how it maps values to places.

use crate::numbers;

/// What an axis measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Plain numbers.
    Number,
    /// Whole numbers: no ticks between them.
    Count,
    /// Shares of one, shown in percent.
    Share,
}

/// A linear axis: values from `low` to `high` on places from `start` to `end`.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub start: f64,
    pub end: f64,
    step: f64,
    unit: Unit,
}

/// What an axis does with the values' range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Ends where the values do.
    Tight,
    /// Goes on to the next tick on both sides.
    ToTicks,
}

impl Axis {
    /// An axis for values from `low` to `high`, with about `n` ticks.
    pub fn new((low, high): (f64, f64), places: (f64, f64), unit: Unit, fit: Fit, n: usize) -> Self {
        // One value alone gets room on both sides.
        let (low, high) = if high > low {
            (low, high)
        } else {
            let margin = if unit == Unit::Count { 0.5 } else { (low.abs() * 0.1).max(1e-9) };
            (low - margin, low + margin)
        };
        let mut step = nice_step((high - low) / n as f64);
        if unit == Unit::Count {
            step = step.max(1.0);
        }
        let (low, high) = match fit {
            Fit::Tight => (low, high),
            Fit::ToTicks => ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step),
        };
        Self { low, high, start: places.0, end: places.1, step, unit }
    }

    /// Where a value lies; one that is no number lies at the start.
    pub fn place(&self, value: f64) -> f64 {
        if !value.is_finite() {
            return self.start;
        }
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// Values and labels of the ticks.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let first = (self.low / self.step - 1e-6).ceil() as i64;
        let last = (self.high / self.step + 1e-6).floor() as i64;
        let label = |value: f64| match self.unit {
            Unit::Share => format!("{} %", numbers::tick(100.0 * value, 100.0 * self.step)),
            Unit::Number | Unit::Count => numbers::tick(value, self.step),
        };
        // Values of a damaged file must not become a million ticks.
        (first..=last).take(20).map(|i| i as f64 * self.step).map(|value| (value, label(value))).collect()
    }
}

/// The smallest of 1, 2, 5, 10, ... times a power of ten that is not below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&nice| nice >= step * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |range, unit, fit| {
            Axis::new(range, (0.0, 1.0), unit, fit, 4).ticks().into_iter().map(|t| t.1).collect::<Vec<_>>()
        };
        assert_eq!(labels((0.0, 0.62), Unit::Share, Fit::ToTicks), ["0 %", "20 %", "40 %", "60 %", "80 %"]);
        assert_eq!(labels((1.0, 3.0), Unit::Count, Fit::Tight), ["1", "2", "3"]);
        assert_eq!(labels((2.0, 2.0), Unit::Count, Fit::Tight), ["2"]);
        assert_eq!(labels((0.0, 1e-4), Unit::Number, Fit::ToTicks), ["0", "5e-5", "1e-4"]);
    }

    proptest! {
        #[test]
        fn every_value_lies_on_its_axis(a in -1e6f64..1e6, b in -1e6f64..1e6, share in 0.0f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            for fit in [Fit::Tight, Fit::ToTicks] {
                let axis = Axis::new((low, high), (10.0, 20.0), Unit::Number, fit, 5);
                let place = axis.place(low + share * (high - low));
                prop_assert!((9.999..=20.001).contains(&place), "{place} of {axis:?}");
                prop_assert!(axis.ticks().len() <= 9, "{axis:?}");
            }
        }
    }
}
