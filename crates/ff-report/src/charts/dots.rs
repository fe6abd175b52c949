//! Rows of dots on one axis: every value by itself, and their mean and deviation.

use maud::{Markup, html};

use super::ticks::{Axis, Fit, Unit};
use super::{Color, Px, WIDTH, segment, shortened, svg, text, width_of};
use crate::numbers;

const ROW: f64 = 30.0;
const TOP: f64 = 8.0;
const MAX_LABEL: usize = 14;

/// A chart of dots.
#[derive(Debug, Clone)]
pub struct DotChart<'a> {
    /// Says what it shows, for those who cannot see it.
    pub title: &'a str,
    /// Name and unit of the values.
    pub label: &'a str,
    /// What they measure.
    pub unit: Unit,
    /// From top to bottom.
    pub rows: Vec<DotRow>,
}

/// One row.
#[derive(Debug, Clone)]
pub struct DotRow {
    /// Its name.
    pub label: String,
    /// What it is about.
    pub color: Color,
    /// The values, each with the name of what it is of.
    pub dots: Vec<(String, f64)>,
    /// Their mean.
    pub mean: f64,
    /// Their deviation, where they have one.
    pub deviation: Option<f64>,
}

impl DotChart<'_> {
    /// The chart.
    pub fn svg(&self) -> Markup {
        let bottom = TOP + ROW * self.rows.len() as f64;
        let labels: Vec<String> = self.rows.iter().map(|row| shortened(&row.label, MAX_LABEL)).collect();
        let left = 10.0 + width_of(labels.iter().map(String::as_str));
        let ends = self.rows.iter().flat_map(|row| {
            let around = row.deviation.unwrap_or(0.0);
            row.dots.iter().map(|dot| dot.1).chain([row.mean - around, row.mean + around])
        });
        let ends = ends.filter(|value| value.is_finite());
        let range = ends.map(|x| (x, x)).reduce(|(low, high), (x, _)| (low.min(x), high.max(x)));
        let axis = Axis::new(range.unwrap_or((0.0, 1.0)), (left, WIDTH - 16.0), self.unit, Fit::ToTicks, 4);
        let parts = html! {
            @for (value, label) in axis.ticks() {
                @let at = axis.place(value);
                (segment((at, TOP), (at, bottom), "grid"))
                (text(at, bottom + 13.0, "tick middle", &label))
            }
            @for (i, (row, label)) in self.rows.iter().zip(&labels).enumerate() {
                (self.row(row, label, &axis, TOP + ROW * (i as f64 + 0.5)))
            }
            (text((left + WIDTH - 16.0) / 2.0, bottom + 29.0, "label middle", self.label))
        };
        svg(self.title, WIDTH, bottom + 34.0, &parts)
    }

    fn row(&self, row: &DotRow, label: &str, axis: &Axis, middle: f64) -> Markup {
        let value = match self.unit {
            Unit::Share => numbers::percent,
            Unit::Number | Unit::Count => numbers::figure,
        };
        let mean = axis.place(row.mean);
        html! {
            (text(axis.start - 6.0, middle + 3.5, "tick end", label))
            @for (name, x) in &row.dots {
                circle cx=(Px(axis.place(*x))) cy=(Px(middle + 4.0)) r="3.5" class={ "dot " (row.color.class()) }
                    fill-opacity="0.6" { title { (row.label) ", " (name) ": " (value(*x)) } }
            }
            @if let Some(deviation) = row.deviation {
                @let ends = [row.mean - deviation, row.mean + deviation].map(|end| axis.place(end));
                (segment((ends[0], middle - 6.0), (ends[1], middle - 6.0), "whisker"))
            }
            (segment((mean, middle - 10.0), (mean, middle - 2.0), "whisker"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_a_dot_at_its_place() {
        let row = |mean, deviation, values: &[f64]| DotRow {
            label: "<age>".into(),
            color: Color::Task(0),
            dots: values.iter().map(|&x| (format!("seed {x}"), x)).collect(),
            mean,
            deviation,
        };
        let rows = vec![row(0.4, Some(0.1), &[0.3, 0.4, 0.5]), row(0.7, None, &[0.7])];
        let chart = DotChart { title: "t", label: "accuracy", unit: Unit::Share, rows };
        let svg = chart.svg().into_string();
        let place = |part: &str| part.split('"').nth(1).unwrap().parse::<f64>().unwrap();
        let places: Vec<f64> = svg.split("<circle").skip(1).map(place).collect();
        let [a, b, c, d] = places[..] else { panic!("{svg}") };
        assert!((b - a - (c - b)).abs() < 0.11 && (d - c - 2.0 * (c - b)).abs() < 0.11, "{places:?}");
        assert!(svg.contains("&lt;age&gt;, seed 0.3: 30.0 %") && svg.contains(">70 %<"), "{svg}");
        assert_eq!(svg.matches("whisker").count(), 3, "two means, one deviation");
    }

    /// Values of a damaged file, or none.
    #[test]
    fn values_that_are_no_numbers_leave_a_chart() {
        for value in [f64::NAN, f64::INFINITY] {
            let row = DotRow {
                label: "age".into(),
                color: Color::All,
                dots: vec![("seed 1".into(), value)],
                mean: value,
                deviation: Some(value),
            };
            let chart = DotChart { title: "t", label: "l", unit: Unit::Number, rows: vec![row] };
            let svg = chart.svg().into_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
