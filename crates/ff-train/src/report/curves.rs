//! How the run went: losses, accuracies, learning rate and speed over its steps.

use ff_data::Task;

use super::charts::{Color, Line, LineChart, Marker, Point, Stroke, Unit};
use super::numbers::{figure as number, percent};
use super::page::{figure, grid, section};
use super::{Bucket, Report, Spread};
use crate::records::EpochRecord;

/// Losses, learning rate, speed, accuracies.
pub fn section_of(report: &Report) -> String {
    let size = report.series.first().map_or(1, |bucket| bucket.last_step - bucket.first_step + 1);
    let band = match size {
        1 => String::new(),
        _ => format!(", means of {size} steps; the band ends at their smallest and largest"),
    };
    let about_losses = format!(
        "<p>Solid: training, with augmentation and dropout{band}. Dashed: validation, the mean negative log-likelihood.</p>\n"
    );
    let about_accuracy = "<p>Accuracy on the validation split. Dashed: balanced accuracy, the mean over the labels. \
                          Dotted: always answering the most common label.</p>\n";
    let all = [
        figure("fig-loss", "Loss, all tasks", &total_loss(report).svg()),
        figure("fig-learning-rate", "Learning rate", &learning_rate(report).svg()),
        figure("fig-speed", "Speed", &speed(report).svg()),
    ];
    let losses = Task::ALL.map(|task| {
        let title = format!("Loss of {task}");
        let chart = loss_chart(report, &title, Color::Task(task), |b| b.losses[task], |e| e.val[task].nll);
        figure(&format!("fig-loss-{task}"), &format!("Loss, {task}"), &chart.svg())
    });
    let accuracies = Task::ALL.map(|task| {
        let title = format!("Validation accuracy of {task}");
        let chart = accuracy_chart(report, task, &title);
        figure(&format!("fig-accuracy-{task}"), &format!("Accuracy, {task}"), &chart.svg())
    });
    let body = [&about_losses, &grid(&all), &grid(&losses), about_accuracy, &grid(&accuracies)];
    section("curves", "Learning", &body.concat())
}

fn total_loss(report: &Report) -> LineChart<'static> {
    let val = |epoch: &EpochRecord| epoch.val.values().map(|m| m.nll).sum();
    loss_chart(report, "Sum of the three tasks' losses", Color::All, |bucket| bucket.loss, val)
}

fn learning_rate(report: &Report) -> LineChart<'static> {
    let point = |b: &Bucket| point(b, b.lr, format!("learning rate {}", number(b.lr)));
    let rate = line("", Color::All, Stroke::Solid, report.series.iter().map(point).collect());
    chart(report, "Learning rate", "learning rate", vec![rate])
}

fn speed(report: &Report) -> LineChart<'static> {
    let point = |b: &Bucket| point(b, b.images_per_s, format!("{} images/s", number(b.images_per_s)));
    let speed = line("", Color::All, Stroke::Solid, report.series.iter().map(point).collect());
    LineChart { marker: None, ..chart(report, "Training speed", "images a second", vec![speed]) }
}

fn loss_chart<'a>(
    report: &Report,
    title: &'a str,
    color: Color,
    train: impl Fn(&Bucket) -> Spread,
    val: impl Fn(&EpochRecord) -> f64,
) -> LineChart<'a> {
    let train = report.series.iter().map(|bucket| {
        let Spread { mean, min, max } = train(bucket);
        let note = format!("loss {} ({} to {})", number(mean), number(min), number(max));
        Point { range: Some((min, max)), ..point(bucket, mean, note) }
    });
    let val = epoch_points(report, "validation loss", number, val);
    let lines =
        vec![line("train", color, Stroke::Solid, train.collect()), line("val", color, Stroke::Dashed, val)];
    chart(report, title, "loss, nats", lines)
}

fn accuracy_chart<'a>(report: &Report, task: Task, title: &'a str) -> LineChart<'a> {
    let color = Color::Task(task);
    let accuracy = epoch_points(report, "accuracy", percent, |epoch| epoch.val[task].accuracy);
    let balanced =
        epoch_points(report, "balanced accuracy", percent, |epoch| epoch.val[task].balanced_accuracy);
    let majority = report.tasks.as_ref().map_or(0.0, |tasks| tasks[task].majority_share);
    let constant =
        [1, report.steps].map(|step| Point { x: step as f64, y: majority, range: None, note: String::new() });
    let lines = if report.epochs.is_empty() {
        vec![]
    } else {
        vec![
            line("constant", Color::Reference, Stroke::Dotted, constant.to_vec()),
            line("balanced", color, Stroke::Dashed, balanced),
            line("accuracy", color, Stroke::Solid, accuracy),
        ]
    };
    LineChart {
        y_unit: Unit::Share,
        cover: (vec![], vec![0.0, 1.0]),
        ..chart(report, title, "accuracy", lines)
    }
}

/// A chart over the run's steps.
fn chart<'a>(report: &Report, title: &'a str, y_label: &'a str, lines: Vec<Line<'a>>) -> LineChart<'a> {
    let best = report.best.map(|best| report.epochs[best].step as f64);
    LineChart {
        title,
        x_label: "step",
        x_unit: Unit::Count,
        y_label,
        y_unit: Unit::Number,
        cover: (vec![], vec![0.0]),
        lines,
        marker: best.map(|x| Marker { x, label: "best" }),
    }
}

fn line<'a>(name: &'a str, color: Color, stroke: Stroke, points: Vec<Point>) -> Line<'a> {
    Line { name, color, stroke, points }
}

fn point(bucket: &Bucket, y: f64, value: String) -> Point {
    let Bucket { first_step: first, last_step: last, .. } = *bucket;
    let steps = if first == last { format!("step {first}") } else { format!("steps {first} to {last}") };
    Point { x: (first + last) as f64 / 2.0, y, range: None, note: format!("{steps}: {value}") }
}

fn epoch_points(
    report: &Report,
    name: &str,
    show: fn(f64) -> String,
    value: impl Fn(&EpochRecord) -> f64,
) -> Vec<Point> {
    let point = |epoch: &EpochRecord| {
        let y = value(epoch);
        let note = format!("epoch {}, step {}: {name} {}", epoch.epoch, epoch.step, show(y));
        Point { x: epoch.step as f64, y, range: None, note }
    };
    report.epochs.iter().map(point).collect()
}
