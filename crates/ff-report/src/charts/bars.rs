//! Horizontal bars from zero, with intervals.

use maud::{Markup, html};

use super::ticks::{Axis, Fit, Unit};
use super::{CHARACTER, Color, Px, WIDTH, segment, shortened, svg, text, width_of};
use crate::numbers;

const ROW: f64 = 22.0;
const TOP: f64 = 20.0;
const MAX_LABEL: usize = 22;

/// A bar chart.
#[derive(Debug, Clone)]
pub struct BarChart<'a> {
    /// Says what it shows, for those who cannot see it.
    pub title: &'a str,
    /// Name and unit of the values.
    pub label: &'a str,
    /// What they measure.
    pub unit: Unit,
    /// What they are about.
    pub color: Color,
    /// From top to bottom.
    pub bars: Vec<Bar>,
    /// A value to compare with, drawn through all bars, and its name.
    pub reference: Option<(f64, &'a str)>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Its length, not negative.
    pub value: f64,
    /// Ends of the interval around the value.
    pub interval: Option<(f64, f64)>,
    /// What stands beside it, such as the number of samples.
    pub note: String,
}

impl BarChart<'_> {
    /// The chart.
    pub fn svg(&self) -> Markup {
        let bottom = TOP + ROW * self.bars.len() as f64;
        let labels: Vec<String> = self.bars.iter().map(|bar| shortened(&bar.label, MAX_LABEL)).collect();
        let left = 10.0 + width_of(labels.iter().map(String::as_str));
        let right =
            WIDTH - 8.0 - width_of(self.bars.iter().map(|bar| bar.note.as_str())).max(CHARACTER * 2.0);
        let ends = self.bars.iter().map(|bar| bar.interval.map_or(bar.value, |interval| interval.1));
        let largest = ends.chain(self.reference.map(|r| r.0)).fold(0.0, f64::max);
        // Shares keep to the whole: a bar of 50 % looks like a half.
        let largest = if self.unit == Unit::Share { 1.0 } else { largest };
        let axis = Axis::new((0.0, largest), (left, right), self.unit, Fit::ToTicks, 4);
        let parts = html! {
            @for (value, label) in axis.ticks() {
                @let at = axis.place(value);
                (segment((at, TOP), (at, bottom), "grid"))
                (text(at, bottom + 13.0, "tick middle", &label))
            }
            @for (row, (bar, label)) in self.bars.iter().zip(&labels).enumerate() {
                (self.bar(bar, label, &axis, TOP + ROW * row as f64))
            }
            @if let Some((value, name)) = self.reference {
                @let at = axis.place(value);
                (segment((at, TOP - 4.0), (at, bottom), "marker"))
                (text(at, TOP - 7.0, "label middle", name))
            }
            (text((left + right) / 2.0, bottom + 29.0, "label middle", self.label))
        };
        svg(self.title, WIDTH, bottom + 34.0, &parts)
    }

    fn bar(&self, bar: &Bar, label: &str, axis: &Axis, top: f64) -> Markup {
        let (zero, end, middle) = (axis.place(0.0), axis.place(bar.value), top + ROW / 2.0);
        let value = match self.unit {
            Unit::Share => numbers::percent,
            Unit::Number | Unit::Count => numbers::figure,
        };
        let interval = bar.interval.map(|ends| format!(" ({})", numbers::range(ends, value)));
        let read_out =
            format!("{}: {}{} {}", bar.label, value(bar.value), interval.unwrap_or_default(), bar.note);
        html! {
            (text(axis.start - 6.0, middle + 3.5, "tick end", label))
            rect x=(Px(zero)) y=(Px(middle - 7.0)) width=(Px((end - zero).max(0.0))) height="14" rx="1.5"
                class={ "bar " (self.color.class()) } { title { (read_out) } }
            @if let Some((low, high)) = bar.interval {
                @let (low, high) = (axis.place(low), axis.place(high));
                (segment((low, middle), (high, middle), "whisker"))
                @for end in [low, high] {
                    (segment((end, middle - 3.5), (end, middle + 3.5), "whisker"))
                }
            }
            (text(axis.end + 6.0, middle + 3.5, "tick", &bar.note))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_shares_of_the_whole_axis() {
        let bar = |value| Bar { label: "a".into(), value, interval: Some((0.1, 0.9)), note: "n".into() };
        let bars = vec![bar(0.25), bar(0.5)];
        let chart = BarChart {
            title: "t",
            label: "accuracy",
            unit: Unit::Share,
            color: Color::All,
            bars,
            reference: None,
        };
        let svg = chart.svg().into_string();
        let widths = svg.split("<rect").skip(1).map(|part| {
            part.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        });
        let widths: Vec<f64> = widths.collect();
        assert!((widths[1] - 2.0 * widths[0]).abs() < 0.2, "{widths:?}");
        assert!(svg.contains("a: 25.0 % (10.0 % to 90.0 %) n"), "{svg}");
        assert!(svg.contains(">100 %<"), "{svg}");
    }
}
