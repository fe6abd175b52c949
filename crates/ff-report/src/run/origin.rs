//! The small print: where the time went, every epoch in figures, provenance, configuration.

use ff_core::TaskName;
use maud::{Markup, html};

use super::{RunReport, curves};
use crate::charts::{Bar, BarChart, Color, Unit};
use crate::numbers::{duration, figure as number, grouped, percent};
use crate::page::{figure, grid, more, section, table};

/// Where the time went.
pub fn time(report: &RunReport) -> Markup {
    let seconds = &report.seconds;
    let total = seconds.training() + seconds.evaluation;
    let stages = [
        ("waiting for images", seconds.loader),
        ("forward", seconds.forward),
        ("backward", seconds.backward),
        ("optimizer", seconds.optimizer),
        ("validation", seconds.evaluation),
    ];
    let bars = stages.map(|(name, seconds)| Bar {
        label: name.to_owned(),
        value: if total > 0.0 { seconds / total } else { 0.0 },
        interval: None,
        note: duration(seconds),
    });
    let breakdown = BarChart {
        title: "Share of the time a stage",
        label: "share of the time",
        unit: Unit::Share,
        color: Color::All,
        bars: bars.to_vec(),
        reference: None,
    };
    let figures = [
        figure("fig-time", "Where the time went", &breakdown.svg()),
        figure("fig-speed", "Speed", &curves::speed(report).svg()),
    ];
    section("time", "Time", &html! { p { (duration(total)) " in the finished epochs." } (grid(&figures)) })
}

/// Every epoch in figures.
pub fn epochs(report: &RunReport) -> Markup {
    if report.epochs.is_empty() {
        return html! {};
    }
    let rows = report.epochs.iter().enumerate().map(|(i, epoch)| {
        let best = if report.best == Some(i) { " (best)" } else { "" };
        let mut row = vec![format!("{}{best}", epoch.epoch), grouped(epoch.step)];
        row.push(number(epoch.train_loss.unwrap_or(f64::NAN)));
        row.push(number(epoch.val.values().map(|m| m.nll).sum()));
        row.extend(epoch.val.values().map(|m| percent(m.accuracy)));
        row.extend([
            number(epoch.images_per_s),
            duration(epoch.seconds.training() + epoch.seconds.evaluation),
        ]);
        row
    });
    let tasks: Vec<&str> = report.encoders.names().map(TaskName::as_str).collect();
    let header = [&["epoch", "step", "train loss", "val loss"], &tasks[..], &["images/s", "time"]].concat();
    let table = table(&header, &rows.collect::<Vec<_>>());
    let summary = format!("Figures of {} epochs", report.epochs.len());
    section("epochs", "Every epoch", &more(summary, &table))
}

/// Provenance and configuration.
pub fn origin(report: &RunReport) -> Markup {
    let p = &report.provenance;
    let fact = |name: &str, value: Option<String>| value.map(|value| vec![name.to_owned(), value]);
    let facts = [
        fact("initial weights", p.init.clone()),
        fact("seed", p.seed.map(|seed| seed.to_string())),
        fact("commit", p.commit.clone()),
        fact("version", p.version.clone()),
    ];
    let machine = p.machine.iter().map(|(key, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        vec![format!("machine: {}", key.replace('_', " ")), value]
    });
    let rows: Vec<_> = facts.into_iter().flatten().chain(machine).collect();
    let summary = html! { "Complete configuration (" code { "config.toml" } ")" };
    let config = more(summary, &html! { pre { (report.config_text) } });
    section("origin", "Where it comes from", &html! { (table(&["", ""], &rows)) (config) })
}
