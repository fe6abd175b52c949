//! The small print: where the time went, every epoch in figures, provenance, configuration.

use super::charts::{Bar, BarChart, Color, Unit, escape};
use super::numbers::{duration, figure as number, grouped, percent};
use super::page::{figure, grid, section, table};
use super::{Report, curves};

/// Where the time went.
pub fn time(report: &Report) -> String {
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
    let note = format!("<p>{} in the finished epochs.</p>\n", duration(total));
    section("time", "Time", &(note + &grid(&figures)))
}

/// Every epoch in figures.
pub fn epochs(report: &Report) -> String {
    if report.epochs.is_empty() {
        return String::new();
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
    let header = ["epoch", "step", "train loss", "val loss", "age", "gender", "race", "images/s", "time"];
    let table = table(&header, &rows.collect::<Vec<_>>());
    section(
        "epochs",
        "Every epoch",
        &format!("<details><summary>Figures of {} epochs</summary>{table}</details>\n", report.epochs.len()),
    )
}

/// Provenance and configuration.
pub fn origin(report: &Report) -> String {
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
    let config = format!(
        "<details><summary>Complete configuration (<code>config.toml</code>)</summary><pre>{}</pre></details>\n",
        escape(&report.config_text)
    );
    section("origin", "Where it comes from", &(table(&["", ""], &rows) + &config))
}
