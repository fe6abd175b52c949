//! A run's page: what a reader wants to know first stands first.

use maud::{Markup, html};

use super::{RunReport, curves, origin, results};
use crate::numbers::{duration, grouped};
use crate::page::{contents, document, findings, section};

/// The whole page.
pub fn page(report: &RunReport) -> String {
    let body = html! {
        (header(report))
        (contents(&sections(report)))
        (findings(&report.findings))
        (results::results(report))
        (curves::section_of(report))
        (results::confusions(report))
        @for evaluation in &report.evaluations {
            @let body = html! {
                p { (evaluation.source()) }
                (evaluation.body(&report.thumbnails))
            };
            (section(&evaluation.section_id(), &evaluation.heading(), &body))
        }
        (origin::time(report))
        (origin::epochs(report))
        (origin::origin(report))
    };
    document(&format!("{}: training report", report.name), &report.thumbnails.css(), &body)
}

/// The run's name, how far it went, where it comes from.
fn header(report: &RunReport) -> Markup {
    let best = report.best.map(|best| format!(", best epoch {}", report.epochs[best].epoch));
    let progress = format!(
        "{} epochs, {} steps, {} images in {}{}",
        report.epochs.last().map_or(0, |epoch| epoch.epoch),
        grouped(report.steps),
        grouped(report.images),
        duration(report.wall_seconds),
        best.unwrap_or_default()
    );
    let provenance = &report.provenance;
    let commit = provenance.commit.as_ref().map(|commit| commit.chars().take(10).collect());
    let facts = [
        ("weights", provenance.init.clone()),
        ("seed", provenance.seed.map(|seed| seed.to_string())),
        ("commit", commit),
    ];
    html! {
        header {
            h1 { (report.name) }
            p class="lead" { (progress) }
            p class="facts" {
                @for (key, value) in facts { span { (key) " " b { (value.as_deref().unwrap_or("unknown")) } } }
            }
        }
    }
}

/// Ids and headings of the sections that there are.
fn sections(report: &RunReport) -> Vec<(String, String)> {
    let evaluated = report.tasks.is_some();
    let before = [
        ("results", "Results", evaluated),
        ("curves", "Learning", true),
        ("confusions", "Confusions", evaluated),
    ];
    let after = [("time", "Time", true), ("origin", "Configuration", true)];
    let those = |sections: &[(&str, &str, bool)]| {
        let there = sections.iter().filter(|(_, _, there)| *there);
        there.map(|(id, heading, _)| ((*id).to_owned(), (*heading).to_owned())).collect::<Vec<_>>()
    };
    let evaluations = report.evaluations.iter().map(|e| (e.section_id(), e.heading())).collect();
    [those(&before), evaluations, those(&after)].concat()
}
