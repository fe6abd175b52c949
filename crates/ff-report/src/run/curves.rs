//! How the run went: losses, accuracies, learning rate and speed over its steps.

use ff_core::TaskName;
use ff_train::records::EpochRecord;
use maud::{Markup, html};

use super::{Bucket, RunReport, Spread};
use crate::charts::{Color, Line, LineChart, Marker, Point, Stroke, Unit};
use crate::numbers::{figure as number, percent, range};
use crate::page::{figure, grid, section};

/// Losses, learning rate, gradient, speed, accuracies.
pub fn section_of(report: &RunReport) -> Markup {
    let size = report
        .series
        .first()
        .map_or(1, |bucket| bucket.last_step.saturating_sub(bucket.first_step).saturating_add(1));
    let averaged = report.epochs.iter().any(|epoch| epoch.ema.is_some());
    let mut all = vec![
        figure("fig-loss", "Loss, all tasks", &total_loss(report).svg()),
        figure("fig-learning-rate", "Learning rate", &learning_rate(report).svg()),
        figure("fig-gradient", "Gradient", &gradient(report).svg()),
    ];
    if let Some(weights) = task_weights(report) {
        all.push(figure("fig-weights", "Weights of the tasks", &weights.svg()));
    }
    let losses = report.encoders.names().map(|task| {
        let title = format!("Loss of {task}");
        let chart = loss_chart(
            report,
            &title,
            report.color(task),
            |b| b.losses.get(task.as_str()).copied().unwrap_or(Spread::NONE),
            |e| e.val[task].nll,
        );
        figure(&format!("fig-loss-{task}"), &format!("Loss, {task}"), &chart.svg())
    });
    let accuracies = report.encoders.names().map(|task| {
        let title = format!("Validation accuracy of {task}");
        let chart = accuracy_chart(report, task, &title);
        figure(&format!("fig-accuracy-{task}"), &format!("Accuracy, {task}"), &chart.svg())
    });
    let body = html! {
        p {
            "Solid: training, with augmentation, dropout and whatever " code { "[loss]" } " adds."
            @if size > 1 {
                " Every point is the mean of " (size) " steps, and the band ends at their smallest and largest."
            }
            " Dashed: validation, the mean negative log-likelihood."
        }
        (grid(&all))
        (grid(&losses.collect::<Vec<_>>()))
        p {
            "Accuracy on the validation split. Dashed: balanced accuracy, the mean over the labels. Dotted: always \
             answering the most common label."
            @if averaged { " The line called average is the accuracy with the moving average of the weights." }
        }
        (grid(&accuracies.collect::<Vec<_>>()))
    };
    section("curves", "Learning", &body)
}

fn total_loss(report: &RunReport) -> LineChart<'static> {
    let val = |epoch: &EpochRecord| epoch.val.values().map(|m| m.nll).sum();
    loss_chart(report, "Sum of the tasks' losses", Color::All, |bucket| bucket.loss, val)
}

fn learning_rate(report: &RunReport) -> LineChart<'static> {
    let point = |b: &Bucket| point(b, b.lr, format!("learning rate {}", number(b.lr)));
    let rate = line("", Color::All, Stroke::Solid, report.series.iter().map(point).collect());
    chart(report, "Learning rate", "learning rate", vec![rate])
}

fn gradient(report: &RunReport) -> LineChart<'static> {
    let points = report.series.iter().map(|b| spread_point(b, b.grad_norm, "gradient norm")).collect();
    let norm = line("", Color::All, Stroke::Solid, points);
    chart(report, "Norm of the gradient, before clipping", "l2 norm before clipping", vec![norm])
}

/// The tasks' weights, where they are learnt.
fn task_weights(report: &RunReport) -> Option<LineChart<'_>> {
    fn of_task<'a>(report: &RunReport, task: &'a TaskName) -> Line<'a> {
        let point = |b: &Bucket| {
            let weight = *b.weights.as_ref()?.get(task.as_str())?;
            Some(point(b, weight, format!("weight of {task} {}", number(weight))))
        };
        let points = report.series.iter().filter_map(point).collect();
        line(task.as_str(), report.color(task), Stroke::Solid, points)
    }
    let learnt = report.series.iter().any(|bucket| bucket.weights.is_some());
    let lines = || report.encoders.names().map(|task| of_task(report, task)).collect();
    learnt.then(|| chart(report, "Learnt weights of the tasks", "weight", lines()))
}

/// Training speed over the steps.
pub fn speed(report: &RunReport) -> LineChart<'static> {
    let point = |b: &Bucket| point(b, b.images_per_s, format!("{} images/s", number(b.images_per_s)));
    let speed = line("", Color::All, Stroke::Solid, report.series.iter().map(point).collect());
    LineChart { marker: None, ..chart(report, "Training speed", "images a second", vec![speed]) }
}

fn loss_chart<'a>(
    report: &RunReport,
    title: &'a str,
    color: Color,
    train: impl Fn(&Bucket) -> Spread,
    val: impl Fn(&EpochRecord) -> f64,
) -> LineChart<'a> {
    let train = report.series.iter().map(|bucket| spread_point(bucket, train(bucket), "loss"));
    let val = epoch_points(report, "validation loss", number, val);
    let lines =
        vec![line("train", color, Stroke::Solid, train.collect()), line("val", color, Stroke::Dashed, val)];
    chart(report, title, "loss, nats", lines)
}

fn accuracy_chart<'a>(report: &RunReport, task: &TaskName, title: &'a str) -> LineChart<'a> {
    let color = report.color(task);
    let accuracy = epoch_points(report, "accuracy", percent, |epoch| epoch.val[task].accuracy);
    let balanced =
        epoch_points(report, "balanced accuracy", percent, |epoch| epoch.val[task].balanced_accuracy);
    let majority = report.tasks.as_ref().map_or(0.0, |tasks| tasks[task].majority_share);
    let constant =
        [1, report.steps].map(|step| Point { x: step as f64, y: majority, range: None, note: String::new() });
    let averaged = report.epochs.iter().filter_map(|epoch| {
        let accuracy = epoch.ema.as_ref()?[task].accuracy;
        Some(epoch_point(epoch, "accuracy of the moving average", percent, accuracy))
    });
    let averaged: Vec<Point> = averaged.collect();
    let mut lines = Vec::new();
    if !report.epochs.is_empty() {
        lines.push(line("constant", Color::Reference, Stroke::Dotted, constant.to_vec()));
        lines.push(line("balanced", color, Stroke::Dashed, balanced));
        lines.push(line("accuracy", color, Stroke::Solid, accuracy));
    }
    if !averaged.is_empty() {
        lines.push(line("average", Color::All, Stroke::Solid, averaged));
    }
    LineChart { y_unit: Unit::Share, cover: &[0.0, 1.0], ..chart(report, title, "accuracy", lines) }
}

/// A chart over the run's steps.
fn chart<'a>(report: &RunReport, title: &'a str, y_label: &'a str, lines: Vec<Line<'a>>) -> LineChart<'a> {
    let best = report.best.map(|best| report.epochs[best].step as f64);
    LineChart {
        title,
        x_label: "step",
        x_unit: Unit::Count,
        y_label,
        y_unit: Unit::Number,
        cover: &[0.0],
        lines,
        marker: best.map(|x| Marker { x, label: "best" }),
    }
}

pub(super) fn line<'a>(name: &'a str, color: Color, stroke: Stroke, points: Vec<Point>) -> Line<'a> {
    Line { name, color, stroke, points }
}

pub(super) fn point(bucket: &Bucket, y: f64, value: String) -> Point {
    let Bucket { first_step: first, last_step: last, .. } = *bucket;
    let steps = if first == last { format!("step {first}") } else { format!("steps {first} to {last}") };
    Point { x: (first as f64 + last as f64) / 2.0, y, range: None, note: format!("{steps}: {value}") }
}

/// A bucket's mean, with its smallest and largest value as the band.
pub(super) fn spread_point(bucket: &Bucket, Spread { mean, min, max }: Spread, name: &str) -> Point {
    let note = format!("{name} {} ({})", number(mean), range((min, max), number));
    Point { range: Some((min, max)), ..point(bucket, mean, note) }
}

fn epoch_points(
    report: &RunReport,
    name: &str,
    show: fn(f64) -> String,
    value: impl Fn(&EpochRecord) -> f64,
) -> Vec<Point> {
    report.epochs.iter().map(|epoch| epoch_point(epoch, name, show, value(epoch))).collect()
}

pub(super) fn epoch_point(epoch: &EpochRecord, name: &str, show: fn(f64) -> String, y: f64) -> Point {
    let note = format!("epoch {}, step {}: {name} {}", epoch.epoch, epoch.step, show(y));
    Point { x: epoch.step as f64, y, range: None, note }
}
