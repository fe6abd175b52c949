//! What the run achieved: findings, figures at the best epoch, confusion matrices.

use ff_data::Task;

use super::charts::{Color, HeatMap, escape};
use super::findings::capital;
use super::numbers::{figure as number, grouped, percent};
use super::page::{figure, grid, section};
use super::{Report, TaskSummary};

/// What is worth a look.
pub fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let items: String = report.findings.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    section("findings", "Worth a look", &format!("<ul class=\"findings\">{items}</ul>\n"))
}

/// Validation figures at the best epoch, a card a task.
pub fn results(report: &Report) -> String {
    let Some((tasks, best)) = report.tasks.as_ref().zip(report.best) else { return String::new() };
    let epoch = &report.epochs[best];
    let plain = |task| epoch.ema.as_ref().map(|_| epoch.val[task].accuracy);
    let cards: Vec<String> = tasks.iter().map(|(task, summary)| card(task, summary, plain(task))).collect();
    let averaged = if epoch.ema.is_some() { ", with the moving average of the weights" } else { "" };
    let criterion = report.config.get("train").and_then(|train| train.get("criterion"));
    let criterion = criterion.map_or("\"accuracy\"".to_owned(), toml::Value::to_string);
    let note = format!(
        "<p>Validation split, {} images, after epoch {}{}: the checkpoint <code>best</code>, by <code>criterion = {}</code>. \
         Intervals cover 95 % (Wilson). The line is the share of the most common label.</p>\n",
        grouped(tasks.age.n),
        epoch.epoch,
        averaged,
        escape(&criterion)
    );
    section("results", "Results", &(note + &grid(&cards)))
}

fn card(task: Task, summary: &TaskSummary, plain: Option<f64>) -> String {
    let TaskSummary { metrics, accuracy_interval, majority_label, majority_share, .. } = summary;
    let interval = accuracy_interval.map(|i| format!("{} to {}", percent(i.low), percent(i.high)));
    let one_off = metrics.one_off.map(|share| ("at most one bin off", percent(share)));
    let rows = [
        Some((format!("always {majority_label}"), percent(*majority_share))),
        plain.map(|share| ("without moving average".to_owned(), percent(share))),
        one_off.map(|(name, value)| (name.to_owned(), value)),
        Some(("balanced accuracy".to_owned(), percent(metrics.balanced_accuracy))),
        Some(("macro F1".to_owned(), percent(metrics.macro_f1))),
        Some(("calibration error".to_owned(), percent(metrics.ece))),
        Some(("log-likelihood loss".to_owned(), number(metrics.nll))),
    ];
    let rows: String = rows
        .iter()
        .flatten()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)))
        .collect();
    let range = accuracy_interval.map_or((0.0, 0.0), |i| (i.low, i.high));
    format!(
        "<article class=\"card {task}\"><h3>{}</h3><p class=\"big\">{}</p><p class=\"interval\">{}</p>{}<dl>{rows}</dl></article>\n",
        capital(task),
        percent(metrics.accuracy),
        interval.unwrap_or_default(),
        gauge(metrics.accuracy, range, *majority_share),
    )
}

/// A bar from 0 to 100 % with the accuracy, its interval, and the line to hold it against.
fn gauge(accuracy: f64, (low, high): (f64, f64), reference: f64) -> String {
    let accuracy = if accuracy.is_finite() { accuracy } else { 0.0 };
    format!(
        "<svg class=\"gauge\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect width=\"100\" height=\"6\" class=\"track\"/><rect width=\"{:.1}\" height=\"6\" class=\"bar\"/>\
         <rect x=\"{:.1}\" width=\"{:.1}\" y=\"2.4\" height=\"1.2\" class=\"range\"/>\
         <rect x=\"{:.1}\" width=\".7\" height=\"6\" class=\"mark\"/></svg>",
        100.0 * accuracy,
        100.0 * low,
        100.0 * (high - low),
        100.0 * reference
    )
}

/// A confusion matrix a task, at the best epoch.
pub fn confusions(report: &Report) -> String {
    let Some(best) = report.best else { return String::new() };
    let epoch = &report.epochs[best];
    let figures = Task::ALL.map(|task| {
        let (order, labels) = (&report.display_order[task], report.encoders[task].labels());
        let title = format!("Confusion matrix of {task}, validation split");
        let heat = HeatMap::new(&title, Color::Task(task), labels, order, &epoch.confusion[task]);
        figure(&format!("fig-confusion-{task}"), capital(task), &heat.svg())
    });
    let note = format!(
        "<p>Validation split after epoch {}. Rows are labels, columns are predictions; a cell says how many percent of its \
         row it holds, and n how many images the row has.</p>\n",
        epoch.epoch
    );
    section("confusions", "What is taken for what", &(note + &grid(&figures)))
}
