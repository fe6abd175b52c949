//! What the run achieved: figures at the best epoch, confusion matrices.

use ff_core::TaskName;
use maud::{Markup, html};

use super::{RunReport, TaskSummary};
use crate::charts::{Color, HeatMap};
use crate::numbers::{figure as number, fixed, grouped, percent, range};
use crate::page::{capital, figure, grid, section};

/// Validation figures at the best epoch, a card a task.
pub fn results(report: &RunReport) -> Markup {
    let Some((tasks, best)) = report.tasks.as_ref().zip(report.best) else { return html! {} };
    let epoch = &report.epochs[best];
    let plain = |task: &TaskName| epoch.ema.as_ref().map(|_| epoch.val[task].accuracy);
    let cards: Vec<Markup> =
        tasks.iter().map(|(task, summary)| card(task, report.color(task), summary, plain(task))).collect();
    let criterion = report.config.get("train").and_then(|train| train.get("criterion"));
    let criterion = criterion.map_or("\"accuracy\"".to_owned(), toml::Value::to_string);
    let n = tasks.values().map(|summary| summary.n).max().unwrap_or(0);
    let body = html! {
        p {
            "Validation split, " (grouped(n)) " images, after epoch " (epoch.epoch)
            @if epoch.ema.is_some() { ", with the moving average of the weights" }
            ": the checkpoint " code { "best" } ", by " code { "criterion = " (criterion) }
            ". Intervals cover 95 % (Wilson). The line is the share of the most common label."
        }
        (grid(&cards))
    };
    section("results", "Results", &body)
}

fn card(task: &TaskName, color: Color, summary: &TaskSummary, plain: Option<f64>) -> Markup {
    let TaskSummary { metrics, accuracy_interval, majority_label, majority_share, .. } = summary;
    let interval = accuracy_interval.map(|i| (i.low, i.high));
    let rows = [
        Some((format!("always {majority_label}"), percent(*majority_share))),
        plain.map(|share| ("without moving average".to_owned(), percent(share))),
        metrics.one_off.map(|share| ("at most one bin off".to_owned(), percent(share))),
        Some(("balanced accuracy".to_owned(), percent(metrics.balanced_accuracy))),
        Some(("macro F1".to_owned(), percent(metrics.macro_f1))),
        Some(("calibration error".to_owned(), percent(metrics.ece))),
        Some(("log-likelihood loss".to_owned(), number(metrics.nll))),
    ];
    html! {
        article class={ "card " (color.class()) } {
            h3 { (capital(task.as_str())) }
            p class="big" { (percent(metrics.accuracy)) }
            p class="interval" { @if let Some(ends) = interval { (range(ends, percent)) } }
            (gauge(metrics.accuracy, interval.unwrap_or_default(), *majority_share))
            dl { @for (name, value) in rows.iter().flatten() { dt { (name) } dd { (value) } } }
        }
    }
}

/// A bar from 0 to 100 % with the accuracy, its interval, and the line to hold it against.
fn gauge(accuracy: f64, (low, high): (f64, f64), reference: f64) -> Markup {
    let accuracy = if accuracy.is_finite() { accuracy } else { 0.0 };
    let width = |share: f64| fixed(100.0 * share, 1);
    html! {
        svg class="gauge" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect width="100" height="6" class="track" {}
            rect width=(width(accuracy)) height="6" class="bar" {}
            rect x=(width(low)) width=(width(high - low)) y="2.4" height="1.2" class="range" {}
            rect x=(width(reference)) width=".7" height="6" class="mark" {}
        }
    }
}

/// A confusion matrix a task, at the best epoch.
pub fn confusions(report: &RunReport) -> Markup {
    let Some(best) = report.best else { return html! {} };
    let epoch = &report.epochs[best];
    let figures = report.encoders.names().map(|task| {
        let (order, labels) = (&report.display_order[task], report.encoders[task].labels());
        let title = format!("Confusion matrix of {task}, validation split");
        let heat = HeatMap::new(&title, report.color(task), labels, order, &epoch.confusion[task]);
        figure(&format!("fig-confusion-{task}"), &capital(task.as_str()), &heat.svg())
    });
    let body = html! {
        p {
            "Validation split after epoch " (epoch.epoch) ". Rows are labels, columns are predictions; a cell says how \
             many percent of its row it holds, and n how many images the row has."
        }
        (grid(&figures.collect::<Vec<_>>()))
    };
    section("confusions", "What is taken for what", &body)
}
