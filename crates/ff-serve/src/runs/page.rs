//! The pages of runs.

use axum::response::Html;
use maud::{Markup, html};

use super::named::Named;
use crate::served_page::document;

/// Runs that a page follows by a stream of events each: a browser opens six connections to a server, for all its pages.
const MOST_FOLLOWED: usize = 2;

/// A run on a page that follows it.
pub struct Followed {
    name: String,
    is_training: bool,
    /// How far its whole records went before the charts were made: what comes after is sent.
    offset: u64,
}

impl Followed {
    /// As it is now.
    pub fn look(named: &Named) -> Self {
        let is_training = named.run.is_training();
        let records = fs_err::read(named.run.path().join("metrics.jsonl")).unwrap_or_default();
        let end = records.iter().rposition(|&byte| byte == b'\n');
        Self { name: named.name.clone(), is_training, offset: end.map_or(0, |end| end as u64 + 1) }
    }
}

/// The address of some runs' charts.
pub fn compare_address<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let pairs = names.into_iter().map(|name| ("run", name));
    format!("/runs/compare?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

/// The runs that there are.
pub fn list(runs: &[Named]) -> Html<String> {
    let body = html! {
        h1 { "Runs" }
        @if runs.is_empty() { p { "There is none yet." } } @else {
            form action="/runs/compare" {
                div class="scroll" { table {
                    thead { tr {
                        @for head in ["run", "compare", "state", "epoch", "step", "accuracy"] { th { (head) } }
                    } }
                    tbody { @for named in runs { (row(named)) } }
                } }
                p { button { "Compare" } }
            }
        }
    };
    document("Runs", "/runs", &body)
}

fn row(named: &Named) -> Markup {
    let epoch = named.run.last_epoch().ok().flatten();
    let accuracies = epoch.iter().flat_map(|epoch| epoch.val.iter());
    let accuracies =
        accuracies.map(|(task, m)| format!("{task} {}", ff_report::numbers::percent(m.accuracy)));
    let accuracies: Vec<String> = accuracies.collect();
    let number = |n: Option<u64>| n.map_or("-".to_owned(), ff_report::numbers::grouped);
    html! {
        tr {
            td { a href=(compare_address([named.name.as_str()])) { (named.name) } }
            td { input type="checkbox" name="run" value=(named.name) aria-label={ "compare " (named.name) }; }
            td { @if named.run.is_training() { "training" } @else { "ended" } }
            td { (number(epoch.as_ref().map(|epoch| epoch.epoch))) }
            td { (number(epoch.as_ref().map(|epoch| epoch.step))) }
            td { (accuracies.join(", ")) }
        }
    }
}

/// Charts of some runs, and what those that are being trained are at.
pub fn compare(runs: &[Followed], charts: &Markup) -> Html<String> {
    let title = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let trained = runs.iter().filter(|run| run.is_training).map(|run| run.name.as_str());
    let followed: Vec<&str> = trained.take(MOST_FOLLOWED).collect();
    let body = html! {
        h1 { (title) }
        nav { a href="/runs" { "All runs" } }
        @for run in runs {
            @if run.is_training {
                p data-follow=[followed.contains(&run.name.as_str()).then_some(&run.name)] data-from=(run.offset) {
                    b { (run.name) } " " span class="status" role="status" { "is being trained" }
                }
            } @else {
                p { b { (run.name) } " has ended" }
            }
        }
        div id="charts" { (charts) }
    };
    document(&title, "/runs", &body)
}
