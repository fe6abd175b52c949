//! A few honest charts as SVG: lines, bars from zero, dots, heat maps.
//!
//! Each has its axes, units and labels in the picture, an accessible title, and a read-out on every mark. They are made
//! for a width of 360 CSS pixels, a phone's, and grow with their place. Colours are classes of `style.css`, so that
//! they follow the reader's light or dark; nothing is told by colour alone.

mod bars;
mod dots;
mod heat;
mod line;
mod ticks;

use std::fmt;

use maud::{Markup, html};

pub use bars::{Bar, BarChart};
pub use dots::{DotChart, DotRow};
pub use heat::HeatMap;
pub use line::{Line, LineChart, Marker, Point, Stroke};
pub use ticks::Unit;

/// Width of every chart, in the units that its text is sized in.
const WIDTH: f64 = 360.0;
/// Width of a character of a label, about.
const CHARACTER: f64 = 6.6;

/// What a mark stands for, hence its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// A task by its place: a colour, used again when there are more tasks than colours.
    Task(usize),
    /// All tasks together.
    All,
    /// Something to compare with.
    Reference,
}

/// The style sheet's colours of tasks.
const HUES: [&str; 6] = ["hue-0", "hue-1", "hue-2", "hue-3", "hue-4", "hue-5"];

impl Color {
    /// The style sheet's class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Task(task) => HUES[task % HUES.len()],
            Self::All => "all",
            Self::Reference => "reference",
        }
    }
}

/// A length or place in a picture: a tenth of a unit is as exact as a screen.
struct Px(f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}

/// The SVG element around a chart's parts.
fn svg(title: &str, width: f64, height: f64, parts: &Markup) -> Markup {
    let view = format!("0 0 {width:.0} {height:.0}");
    html! {
        svg viewBox=(view) role="img" aria-label=(title) xmlns="http://www.w3.org/2000/svg" { (parts) }
    }
}

/// A piece of text; `class` says its size, colour and anchor.
fn text(x: f64, y: f64, class: &str, content: &str) -> Markup {
    html! { text x=(Px(x)) y=(Px(y)) class=(class) { (content) } }
}

fn segment(from: (f64, f64), to: (f64, f64), class: &str) -> Markup {
    let path = format!("M{} {}L{} {}", Px(from.0), Px(from.1), Px(to.0), Px(to.1));
    html! { path d=(path) class=(class) {} }
}

/// A label of at most `max` characters.
fn shortened(label: &str, max: usize) -> String {
    if label.chars().count() <= max {
        return label.to_owned();
    }
    label.chars().take(max - 1).chain(['…']).collect()
}

/// The width that the longest of some labels takes.
fn width_of<'a>(labels: impl Iterator<Item = &'a str>) -> f64 {
    labels.map(|label| label.chars().count()).max().unwrap_or(0) as f64 * CHARACTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_files_cannot_become_markup() {
        let bars = vec![Bar { label: "<script>".into(), value: 0.5, interval: None, note: "</svg>".into() }];
        let chart = BarChart {
            title: "\"><x>&",
            unit: Unit::Share,
            label: "<i>",
            color: Color::All,
            bars,
            reference: None,
        };
        let svg = chart.svg().into_string();
        for markup in ["<script", "<x>", "<i>"] {
            assert!(!svg.contains(markup), "{svg}");
        }
        assert!(svg.contains("aria-label=\"&quot;&gt;&lt;x&gt;&amp;\""), "{svg}");
        assert_eq!(svg.matches("</svg>").count(), 1, "{svg}");
    }

    #[test]
    fn long_labels_are_shortened_by_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer!", 6), "größe…");
    }
}
