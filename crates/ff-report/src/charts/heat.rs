//! A confusion matrix as a heat map: each row's shares, which sum to the whole row.

use ff_eval::ConfusionMatrix;
use maud::{Markup, html};

use super::{CHARACTER, Color, Px, WIDTH, shortened, svg, text, width_of};
use crate::numbers::{fixed, grouped, percent};

const TOP: f64 = 18.0;
/// Cells are at least this wide; a matrix of many classes grows beyond the width of other charts.
const MIN_CELL: f64 = 25.0;
const MAX_LABEL: usize = 15;
/// Shares from which on a cell's text has the colour that stands out from a full cell: in the dark, and in the light.
const FULL: [f64; 2] = [0.7, 0.85];

/// A heat map.
#[derive(Debug, Clone)]
pub struct HeatMap<'a> {
    /// Says what it shows, for those who cannot see it.
    pub title: &'a str,
    /// What it is about.
    pub color: Color,
    labels: Vec<&'a str>,
    counts: Vec<Vec<u64>>,
    n_classes: usize,
    /// Where a cell leads, by row and column; empty where none does.
    links: Vec<Vec<String>>,
}

/// More classes than this make a picture that no screen has room for.
const MOST_CLASSES: usize = 100;

impl<'a> HeatMap<'a> {
    /// From labels and counts by class id; `order` has the ids in the order to show them.
    ///
    /// # Panics
    /// They are of different numbers of classes.
    pub fn new(
        title: &'a str,
        color: Color,
        labels: &'a [String],
        order: &[usize],
        counts: &ConfusionMatrix,
    ) -> Self {
        let n_classes = counts.n_classes();
        assert_eq!((labels.len(), order.len()), (n_classes, n_classes), "one label and one place a class");
        let order = if n_classes > MOST_CLASSES { &[] } else { order };
        Self {
            title,
            color,
            n_classes,
            labels: order.iter().map(|&class| labels[class].as_str()).collect(),
            counts: order
                .iter()
                .map(|&row| order.iter().map(|&column| counts.get(row, column)).collect())
                .collect(),
            links: Vec::new(),
        }
    }

    /// The same with a link on every cell that has a count: `link` is asked with the label and what is taken for it.
    #[must_use]
    pub fn linked(self, link: impl Fn(&str, &str) -> String) -> Self {
        let row = |label: &&str| self.labels.iter().map(|taken_for| link(label, taken_for)).collect();
        Self { links: self.labels.iter().map(row).collect(), ..self }
    }

    /// The chart.
    pub fn svg(&self) -> Markup {
        if self.n_classes > MOST_CLASSES {
            let words = format!("{} classes are too many to draw", grouped(self.n_classes as u64));
            return svg(self.title, WIDTH, 48.0, &text(WIDTH / 2.0, 28.0, "label middle", &words));
        }
        let labels: Vec<String> = self.labels.iter().map(|label| shortened(label, MAX_LABEL)).collect();
        let label_width = width_of(labels.iter().map(String::as_str));
        let totals: Vec<u64> = self.counts.iter().map(|row| row.iter().sum()).collect();
        let total_labels: Vec<String> = totals.iter().map(|&n| grouped(n)).collect();
        let (left, right) =
            (label_width + 10.0, width_of(total_labels.iter().map(String::as_str)).max(10.0) + 10.0);
        let n = labels.len() as f64;
        let cell = ((WIDTH - left - right) / n).clamp(MIN_CELL, 60.0);
        let height = cell.min(34.0);
        let (end, bottom) = (left + cell * n, TOP + height * n);

        let frame = (Px(end - left), Px(bottom - TOP));
        let parts = html! {
            (text(end + 6.0, 11.0, "label", "n"))
            rect x=(Px(left)) y=(Px(TOP)) width=(frame.0) height=(frame.1) class="frame" {}
            @for (row, label) in labels.iter().enumerate() {
                @let middle = TOP + height * (row as f64 + 0.5);
                (text(left - 6.0, middle + 3.5, "tick end", label))
                (text(end + 6.0, middle + 3.5, "tick", &total_labels[row]))
                @for column in 0..labels.len() {
                    @let corner = (left + cell * column as f64, TOP + height * row as f64);
                    (self.cell(row, column, totals[row], corner, (cell, height)))
                }
            }
            // Slanted, so that long names fit narrow columns.
            @for (column, label) in labels.iter().enumerate() {
                @let (x, y) = (left + cell * (column as f64 + 0.5) + 3.0, bottom + 10.0);
                g transform={ "rotate(-45 " (Px(x)) " " (Px(y)) ")" } { (text(x, y, "tick end", label)) }
            }
        };
        let slanted = (label_width + CHARACTER) * std::f64::consts::FRAC_1_SQRT_2;
        svg(self.title, (end + right).max(WIDTH), bottom + slanted + 12.0, &parts)
    }

    fn cell(&self, row: usize, column: usize, total: u64, at: (f64, f64), size: (f64, f64)) -> Markup {
        let count = self.counts[row][column];
        if count == 0 && row != column {
            return html! {};
        }
        let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
        let read_out = format!(
            "{} taken for {}: {} of {} ({})",
            self.labels[row],
            self.labels[column],
            grouped(count),
            grouped(total),
            percent(share)
        );
        let diagonal = if row == column { " diagonal" } else { "" };
        let class = match share {
            _ if share >= FULL[1] => "share full-in-dark full-in-light",
            _ if share >= FULL[0] => "share full-in-dark",
            _ => "share",
        };
        let cell = html! {
            rect x=(Px(at.0 + 0.5)) y=(Px(at.1 + 0.5)) width=(Px(size.0 - 1.0)) height=(Px(size.1 - 1.0))
                class={ "cell " (self.color.class()) (diagonal) } fill-opacity=(fixed(share, 3)) {
                title { (read_out) }
            }
            @if count > 0 {
                (text(at.0 + size.0 / 2.0, at.1 + size.1 / 2.0 + 3.5, class, &fixed(100.0 * share, 0)))
            }
        };
        match self.links.get(row).map(|row| &row[column]) {
            Some(link) if count > 0 => html! { a href=(link) { (cell) } },
            _ => cell,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_show_shares_of_their_row() {
        let counts = ConfusionMatrix::from_rows(&[vec![0, 0], vec![1, 3]]).unwrap();
        let svg =
            HeatMap::new("t", Color::All, &["b".into(), "a".into()], &[1, 0], &counts).svg().into_string();
        assert!(svg.contains("a taken for b: 1 of 4 (25.0 %)"), "{svg}");
        assert!(svg.contains("b taken for b: 0 of 0 (0.0 %)"), "an empty row is no error");
        assert_eq!(svg.matches("class=\"cell").count(), 3, "zeros off the diagonal are left out");
        assert_eq!(svg.matches("class=\"share").count(), 2);
    }

    #[test]
    fn cells_that_have_faces_lead_to_them() {
        let counts = ConfusionMatrix::from_rows(&[vec![2, 0], vec![1, 3]]).unwrap();
        let labels = ["a&".to_owned(), "b".to_owned()];
        let heat = HeatMap::new("t", Color::All, &labels, &[1, 0], &counts);
        let svg = heat.linked(|label, taken_for| format!("?{label}={taken_for}")).svg().into_string();
        for (link, n) in [("?b=b", 1), ("?b=a&amp;", 1), ("?a&amp;=a&amp;", 1), ("?a&amp;=b", 0)] {
            assert_eq!(svg.matches(&format!("<a href=\"{link}\">")).count(), n, "{link}: {svg}");
        }
    }

    #[test]
    fn too_many_classes_are_said_and_not_drawn() {
        let labels: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
        let order: Vec<usize> = (0..1000).collect();
        let svg =
            HeatMap::new("t", Color::All, &labels, &order, &ConfusionMatrix::new(1000)).svg().into_string();
        assert!(svg.contains("1,000 classes are too many to draw") && svg.len() < 1000, "{svg}");
    }
}
