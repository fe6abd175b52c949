//! Lines over a common horizontal axis, with bands, markers and labels at their ends.

use super::ticks::{Axis, Fit, Unit};
use super::{Color, WIDTH, note, segment, shortened, svg, text, width_of};

const HEIGHT: f64 = 216.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = HEIGHT - 36.0;
/// Labels at the lines' ends are this far apart at least.
const LABEL_GAP: f64 = 12.5;
/// Lines of more points than this have no dots.
const MAX_DOTS: usize = 40;

/// A line chart.
#[derive(Debug, Clone)]
pub struct LineChart<'a> {
    /// Says what it shows, for those who cannot see it.
    pub title: &'a str,
    /// Name and unit of the horizontal axis.
    pub x_label: &'a str,
    /// What the horizontal axis measures.
    pub x_unit: Unit,
    /// Name and unit of the vertical axis.
    pub y_label: &'a str,
    /// What the vertical axis measures.
    pub y_unit: Unit,
    /// Values that the vertical axis covers, whatever the lines do.
    pub cover: &'a [f64],
    /// The lines, the first at the back.
    pub lines: Vec<Line<'a>>,
    /// A place on the horizontal axis that matters.
    pub marker: Option<Marker<'a>>,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// Stands at its end.
    pub name: &'a str,
    /// What it is about.
    pub color: Color,
    /// How it is drawn.
    pub stroke: Stroke,
    /// From left to right. Where a value is not finite the line has a gap.
    pub points: Vec<Point>,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// The line that the chart is about.
    Solid,
    /// Its companion.
    Dashed,
    /// Something to compare with.
    Dotted,
}

/// A point of a line.
#[derive(Debug, Clone)]
pub struct Point {
    /// Place on the horizontal axis.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Smallest and largest of what the value is the mean of, or the ends of its interval: the band.
    pub range: Option<(f64, f64)>,
    /// What a reader is told who asks for it.
    pub note: String,
}

/// A vertical line with a word.
#[derive(Debug, Clone, Copy)]
pub struct Marker<'a> {
    /// Where.
    pub x: f64,
    /// The word.
    pub label: &'a str,
}

impl LineChart<'_> {
    /// The chart.
    pub fn svg(&self) -> String {
        let Some((x, y)) = self.axes() else {
            return svg(
                self.title,
                WIDTH,
                48.0,
                &text(WIDTH / 2.0, 28.0, "label middle", "nothing recorded yet"),
            );
        };
        let parts = [
            self.frame(&x, &y),
            self.lines.iter().map(|line| line.marks(&x, &y)).collect(),
            self.end_labels(&x, &y),
        ];
        svg(self.title, WIDTH, HEIGHT, &parts.concat())
    }

    /// Both axes; `None` without a point.
    fn axes(&self) -> Option<(Axis, Axis)> {
        let points = || self.lines.iter().flat_map(|line| line.finite());
        points().next()?;
        let xs = points().map(|p| p.x);
        let ys = points().flat_map(|p| p.range.map_or(vec![p.y], |(low, high)| vec![p.y, low, high]));
        let ys = ys.filter(|&y| can_be_drawn(y)).chain(self.cover.iter().copied());
        let right = WIDTH - 8.0 - width_of(self.lines.iter().map(|line| line.name)).max(14.0);
        let x = Axis::new(extent(xs), (LEFT, right), self.x_unit, Fit::Tight, 5);
        let y = Axis::new(extent(ys), (BOTTOM, TOP), self.y_unit, Fit::ToTicks, 5);
        Some((x, y))
    }

    /// Grid, ticks, names of the axes, marker.
    fn frame(&self, x: &Axis, y: &Axis) -> String {
        let mut parts = text(4.0, 12.0, "label", self.y_label);
        for (value, label) in y.ticks() {
            let at = y.place(value);
            parts += &segment((x.start, at), (x.end, at), "grid");
            parts += &text(x.start - 5.0, at + 3.5, "tick end", &label);
        }
        parts += &segment((x.start, BOTTOM), (x.end, BOTTOM), "axis");
        for (value, label) in x.ticks() {
            let at = x.place(value);
            parts += &segment((at, BOTTOM), (at, BOTTOM + 4.0), "axis");
            parts += &text(at, BOTTOM + 15.0, "tick middle", &label);
        }
        parts += &text((x.start + x.end) / 2.0, HEIGHT - 5.0, "label middle", self.x_label);
        if let Some(Marker { x: value, label }) = self.marker {
            let at = x.place(value);
            parts += &segment((at, TOP - 4.0), (at, BOTTOM), "marker");
            parts += &text(at, TOP - 7.0, "label middle", label);
        }
        parts
    }

    /// The lines' names at their ends, pushed apart where they would overlap.
    fn end_labels(&self, x: &Axis, y: &Axis) -> String {
        let mut ends: Vec<(f64, &Line)> = self
            .lines
            .iter()
            .filter_map(|line| line.finite().last().map(|point| (y.place(point.y), line)))
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        for i in 1..ends.len() {
            ends[i].0 = ends[i].0.max(ends[i - 1].0 + LABEL_GAP);
        }
        let overflow = ends.last().map_or(0.0, |last| (last.0 - BOTTOM).max(0.0));
        ends.iter()
            .map(|&(at, line)| {
                let class = format!("name {}", line.color.class());
                text(x.end + 6.0, at - overflow + 3.5, &class, &shortened(line.name, 18))
            })
            .collect()
    }
}

impl Line<'_> {
    fn finite(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.is_finite())
    }

    /// Band, line and dots.
    fn marks(&self, x: &Axis, y: &Axis) -> String {
        let class = self.color.class();
        let place = |px: f64, py: f64| format!("{:.1} {:.1}", x.place(px), y.place(py));
        let points: Vec<&Point> = self.finite().collect();
        let pieces = || self.points.split(|point| !point.is_finite()).filter(|piece| !piece.is_empty());
        let mut parts = String::new();
        for piece in pieces().filter(|piece| piece.len() > 1 && piece.iter().all(|p| p.range.is_some())) {
            let range = |point: &Point| point.range.unwrap_or((point.y, point.y));
            let upper = piece.iter().map(|p| place(p.x, range(p).1));
            let lower = piece.iter().rev().map(|p| place(p.x, range(p).0));
            let outline: Vec<_> = upper.chain(lower).collect();
            parts += &format!("<path d=\"M{}Z\" class=\"band {class}\"/>", outline.join("L"));
        }
        let path = pieces().map(|piece| piece.iter().map(|p| place(p.x, p.y)).collect::<Vec<_>>().join("L"));
        let path: Vec<String> = path.collect();
        let stroke = match self.stroke {
            Stroke::Solid => "solid",
            Stroke::Dashed => "dashed",
            Stroke::Dotted => "dotted",
        };
        parts += &format!("<path d=\"M{}\" class=\"line {stroke} {class}\"/>", path.join("M"));
        if self.stroke == Stroke::Dotted {
            return parts;
        }
        // Where dots would run together there is a strip over the chart's height instead, unseen but with its read-out.
        let strip = (x.end - x.start) / points.len() as f64;
        for point in &points {
            let (at, note) = (x.place(point.x), note(&point.note));
            parts += &match points.len() {
                ..=MAX_DOTS => {
                    format!(
                        "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"2.6\" class=\"dot {class}\">{note}</circle>",
                        y.place(point.y)
                    )
                }
                _ => format!(
                    "<rect x=\"{:.1}\" y=\"{TOP}\" width=\"{strip:.1}\" height=\"{}\" class=\"hit\">{note}</rect>",
                    at - strip / 2.0,
                    BOTTOM - TOP
                ),
            };
        }
        parts
    }
}

impl Point {
    fn is_finite(&self) -> bool {
        can_be_drawn(self.x) && can_be_drawn(self.y)
    }
}

/// Whether a value is a number, and one whose differences are numbers too.
fn can_be_drawn(value: f64) -> bool {
    value.abs() < 1e100
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<Point>) -> LineChart<'static> {
        let line = Line { name: "loss", color: Color::All, stroke: Stroke::Solid, points };
        LineChart {
            title: "Loss",
            x_label: "step",
            x_unit: Unit::Count,
            y_label: "nats",
            y_unit: Unit::Number,
            cover: &[],
            lines: vec![line],
            marker: None,
        }
    }

    fn point(x: f64, y: f64) -> Point {
        Point { x, y, range: None, note: format!("step {x}: {y}") }
    }

    #[test]
    fn every_point_has_a_read_out_and_gaps_are_left_out() {
        let svg = chart(vec![point(1.0, 2.0), point(2.0, f64::NAN), point(3.0, 1.0)]).svg();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("<title>step 3: 1</title>") && !svg.contains("NaN"), "{svg}");
        let path = svg.split("<path d=\"").find(|path| path.contains("class=\"line")).unwrap();
        assert_eq!(
            path.split('"').next().unwrap().matches('M').count(),
            2,
            "a gap, not a line across: {path}"
        );
        let svg = chart((0..100).map(|i| point(f64::from(i), 1.0)).collect()).svg();
        assert_eq!((svg.matches("<circle").count(), svg.matches("<title>").count()), (0, 100));
    }

    #[test]
    fn without_points_it_says_so() {
        assert!(chart(vec![]).svg().contains("nothing recorded yet"));
    }

    #[test]
    fn names_at_the_ends_do_not_overlap_nor_leave_the_chart() {
        let mut chart = chart(vec![point(0.0, 0.0), point(1.0, 0.0)]);
        chart.lines = (0..5).map(|_| chart.lines[0].clone()).collect();
        let svg = chart.svg();
        let places = svg.split("<text").filter(|part| part.contains("class=\"name")).map(|part| {
            part.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        });
        let places: Vec<f64> = places.collect();
        assert_eq!(places.len(), 5);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_GAP - 0.11), "{places:?}");
        assert!(places.iter().all(|&place| place <= BOTTOM + 4.0), "{places:?}");
    }
}
