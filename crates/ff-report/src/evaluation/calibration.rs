//! Reliability curves: how often predictions of a confidence are right.

use ff_core::TaskName;
use ff_eval::{ReliabilityBin, wilson};
use maud::{Markup, html};

use super::NamedEvaluation;
use crate::charts::{Color, Line, LineChart, Point, Stroke, Unit};
use crate::numbers::{fixed, grouped, percent};
use crate::page::{capital, figure, grid};

/// A curve a task; beside it that after temperature scaling, where there is one.
pub fn curves(evaluation: &NamedEvaluation) -> Markup {
    let record = &evaluation.record;
    let figures = evaluation.tasks().map(|task| {
        let before =
            format!("{}: ECE {}", capital(task.as_str()), percent(record.evaluation.tasks[task].ece));
        let after = record.calibration.as_ref().map(|calibration| {
            let scaled = &calibration.tasks[task];
            format!(" → {} (T {})", percent(scaled.ece), fixed(scaled.temperature, 2))
        });
        let heading = before + &after.unwrap_or_default();
        figure(&evaluation.id(&format!("calibration-{task}")), &heading, &chart(evaluation, task).svg())
    });
    html! {
        h3 { "Calibration" }
        p {
            "Predictions in 15 bins of confidence; the band is the 95 % interval of each bin's accuracy. On the dotted \
             line confidence is accuracy; below it the model is too sure of itself."
            @if let Some(calibration) = &record.calibration {
                " Dashed: after dividing logits by a temperature T that was fitted on "
                (grouped(calibration.n as u64)) " images of " (calibration.fitted_on.display()) "."
            }
        }
        (grid(&figures.collect::<Vec<_>>()))
    }
}

fn chart(evaluation: &NamedEvaluation, task: &TaskName) -> LineChart<'static> {
    let color = evaluation.color(task);
    let ends = [0.0, 1.0].map(|x| Point { x, y: x, range: None, note: String::new() });
    let mut lines = vec![
        Line { name: "ideal", color: Color::Reference, stroke: Stroke::Dotted, points: ends.to_vec() },
        Line {
            name: "model",
            color,
            stroke: Stroke::Solid,
            points: points(&evaluation.record.evaluation.reliability[task], Band::Shown),
        },
    ];
    if let Some(calibration) = &evaluation.record.calibration {
        let points = points(&calibration.tasks[task].reliability, Band::Hidden);
        lines.push(Line { name: "scaled", color, stroke: Stroke::Dashed, points });
    }
    LineChart {
        title: "Accuracy over confidence",
        x_label: "confidence",
        x_unit: Unit::Share,
        y_label: "accuracy",
        y_unit: Unit::Share,
        cover: &[],
        lines,
        marker: None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Band {
    Shown,
    Hidden,
}

/// A point a bin that is not empty.
fn points(bins: &[ReliabilityBin], band: Band) -> Vec<Point> {
    let point = |bin: &ReliabilityBin| {
        let (x, y) = (bin.confidence?, bin.accuracy?);
        let right = (y * bin.n as f64).round() as u64;
        let interval = wilson(right, bin.n).filter(|_| band == Band::Shown).map(|i| (i.low, i.high));
        let note = format!(
            "confidence {}: {} right, {} of {}",
            percent(x),
            percent(y),
            grouped(right),
            grouped(bin.n)
        );
        Some(Point { x, y, range: interval, note })
    };
    bins.iter().filter_map(point).collect()
}
