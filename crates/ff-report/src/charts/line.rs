//! Lines over a common horizontal axis, with bands, markers and labels at their ends.

use maud::{Markup, html};

use super::ticks::{Axis, Fit, Unit};
use super::{Color, Px, WIDTH, segment, shortened, svg, text, width_of};

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
    pub fn svg(&self) -> Markup {
        let Some((x, y)) = self.axes() else {
            let words = text(WIDTH / 2.0, 28.0, "label middle", "nothing recorded yet");
            return svg(self.title, WIDTH, 48.0, &words);
        };
        let parts = html! {
            (self.frame(&x, &y))
            @for line in &self.lines { (line.marks(&x, &y)) }
            (self.end_labels(&x, &y))
        };
        svg(self.title, WIDTH, HEIGHT, &parts)
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
    fn frame(&self, x: &Axis, y: &Axis) -> Markup {
        html! {
            (text(4.0, 12.0, "label", self.y_label))
            @for (value, label) in y.ticks() {
                @let at = y.place(value);
                (segment((x.start, at), (x.end, at), "grid"))
                (text(x.start - 5.0, at + 3.5, "tick end", &label))
            }
            (segment((x.start, BOTTOM), (x.end, BOTTOM), "axis"))
            @for (value, label) in x.ticks() {
                @let at = x.place(value);
                (segment((at, BOTTOM), (at, BOTTOM + 4.0), "axis"))
                (text(at, BOTTOM + 15.0, "tick middle", &label))
            }
            (text((x.start + x.end) / 2.0, HEIGHT - 5.0, "label middle", self.x_label))
            @if let Some(Marker { x: value, label }) = self.marker {
                @let at = x.place(value);
                (segment((at, TOP - 4.0), (at, BOTTOM), "marker"))
                (text(at, TOP - 7.0, "label middle", label))
            }
        }
    }

    /// The lines' names at their ends, pushed apart where they would overlap.
    fn end_labels(&self, x: &Axis, y: &Axis) -> Markup {
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
        html! {
            @for (at, line) in ends {
                @let class = format!("name {}", line.color.class());
                (text(x.end + 6.0, at - overflow + 3.5, &class, &shortened(line.name, 18)))
            }
        }
    }
}

impl Line<'_> {
    fn finite(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.is_finite())
    }

    /// Band, line and dots.
    fn marks(&self, x: &Axis, y: &Axis) -> Markup {
        let place = |px: f64, py: f64| format!("{} {}", Px(x.place(px)), Px(y.place(py)));
        let pieces = || self.points.split(|point| !point.is_finite()).filter(|piece| !piece.is_empty());
        let line = |piece: &[Point]| piece.iter().map(|p| place(p.x, p.y)).collect::<Vec<_>>().join("L");
        let line: Vec<String> = pieces().map(line).collect();
        let band = |piece: &[Point]| {
            let range = |point: &Point| point.range.unwrap_or((point.y, point.y));
            let upper = piece.iter().map(|p| place(p.x, range(p).1));
            let lower = piece.iter().rev().map(|p| place(p.x, range(p).0));
            upper.chain(lower).collect::<Vec<_>>().join("L")
        };
        let banded = pieces().filter(|piece| piece.len() > 1 && piece.iter().all(|p| p.range.is_some()));
        let stroke = match self.stroke {
            Stroke::Solid => "solid",
            Stroke::Dashed => "dashed",
            Stroke::Dotted => "dotted",
        };
        let class = self.color.class();
        html! {
            @for piece in banded {
                path d={ "M" (band(piece)) "Z" } class={ "band " (class) } {}
            }
            path d={ "M" (line.join("M")) } class={ "line " (stroke) " " (class) } {}
            @if self.stroke != Stroke::Dotted { (self.read_outs(x, y)) }
        }
    }

    /// What a reader is told who points at a value: on a dot; where dots would run together, on a strip over the
    /// chart's height, which is not seen.
    fn read_outs(&self, x: &Axis, y: &Axis) -> Markup {
        let n = self.finite().count();
        let strip = (x.end - x.start) / n as f64;
        html! {
            @for point in self.finite() {
                @let at = x.place(point.x);
                @if n <= MAX_DOTS {
                    circle cx=(Px(at)) cy=(Px(y.place(point.y))) r="2.6" class={ "dot " (self.color.class()) } {
                        title { (point.note) }
                    }
                } @else {
                    rect x=(Px(at - strip / 2.0)) y=(Px(TOP)) width=(Px(strip)) height=(Px(BOTTOM - TOP)) class="hit" {
                        title { (point.note) }
                    }
                }
            }
        }
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
        let svg = chart(vec![point(1.0, 2.0), point(2.0, f64::NAN), point(3.0, 1.0)]).svg().into_string();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("<title>step 3: 1</title>") && !svg.contains("NaN"), "{svg}");
        let path = svg.split("<path d=\"").find(|path| path.contains("class=\"line")).unwrap();
        assert_eq!(
            path.split('"').next().unwrap().matches('M').count(),
            2,
            "a gap, not a line across: {path}"
        );
        let svg = chart((0..100).map(|i| point(f64::from(i), 1.0)).collect()).svg().into_string();
        assert_eq!((svg.matches("<circle").count(), svg.matches("<title>").count()), (0, 100));
    }

    #[test]
    fn without_points_it_says_so() {
        assert!(chart(vec![]).svg().into_string().contains("nothing recorded yet"));
    }

    #[test]
    fn names_at_the_ends_do_not_overlap_nor_leave_the_chart() {
        let mut chart = chart(vec![point(0.0, 0.0), point(1.0, 0.0)]);
        chart.lines = (0..5).map(|_| chart.lines[0].clone()).collect();
        let svg = chart.svg().into_string();
        let places = svg.split("<text").filter(|part| part.contains("class=\"name")).map(|part| {
            part.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        });
        let places: Vec<f64> = places.collect();
        assert_eq!(places.len(), 5);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_GAP - 0.11), "{places:?}");
        assert!(places.iter().all(|&place| place <= BOTTOM + 4.0), "{places:?}");
    }
}
