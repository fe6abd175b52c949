//! A few honest charts as SVG text: lines, bars from zero, heat maps.
//!
//! Each has its axes, units and labels in the picture, an accessible title, and a read-out on every mark. They are made
//! for a width of 360 CSS pixels, a phone's, and grow with their place. Colours are classes of `style.css`, so that
//! they follow the reader's light or dark; nothing is told by colour alone. All text is escaped here.

mod bars;
mod heat;
mod line;
mod ticks;

use ff_data::Task;

pub use bars::{Bar, BarChart};
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
    /// A task.
    Task(Task),
    /// All tasks together.
    All,
    /// Something to compare with.
    Reference,
}

impl Color {
    fn class(self) -> &'static str {
        match self {
            Self::Task(task) => task.name(),
            Self::All => "all",
            Self::Reference => "reference",
        }
    }
}

/// Text that HTML and SVG show as it is.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// The SVG element around a chart's parts.
fn svg(title: &str, width: f64, height: f64, parts: &str) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\" \
         xmlns=\"http://www.w3.org/2000/svg\">{parts}</svg>"
    )
}

/// A piece of text; `class` says its size, colour and anchor.
fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>", escape(content))
}

fn segment(from: (f64, f64), to: (f64, f64), class: &str) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    format!("<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" class=\"{class}\"/>")
}

/// The read-out of a mark.
fn note(text: &str) -> String {
    format!("<title>{}</title>", escape(text))
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
        assert_eq!(escape("<b a='1' c=\"2\">&"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;");
        let bars = vec![Bar { label: "<script>".into(), value: 0.5, interval: None, note: "</svg>".into() }];
        let chart = BarChart {
            title: "\"><x>",
            unit: Unit::Share,
            label: "<i>",
            color: Color::All,
            bars,
            reference: None,
        };
        let svg = chart.svg();
        for markup in ["<script", "<x>", "<i>"] {
            assert!(!svg.contains(markup), "{svg}");
        }
        assert_eq!(svg.matches("</svg>").count(), 1, "{svg}");
    }

    #[test]
    fn long_labels_are_shortened_by_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer!", 6), "größe…");
    }
}
