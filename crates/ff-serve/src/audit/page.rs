//! The audit browser's pages.

use axum::response::Html;
use ff_data::Decision;
use ff_report::{Color, HeatMap};
use maud::{Markup, html};

use super::cases::{Case, CaseFace, Cases, Kind};
use super::filter::{DECIDED, PER_PAGE, Query, SORTS, SPLITS};
use crate::served_page::document;

/// What a page shows of decisions.
pub struct Shown<'a> {
    pub cases: &'a Cases,
    pub query: &'a Query,
    /// The cases of all pages, in order.
    pub list: Vec<&'a Case>,
    /// Why the file of decisions cannot be read, if it cannot.
    pub broken: Option<String>,
    /// The file of decisions, and how many there are.
    pub decisions: (String, usize),
}

/// A page of cases.
pub fn page<'d>(shown: &Shown, decision: impl Fn(&str, &Case) -> Option<&'d Decision>) -> Html<String> {
    let Shown { cases, query, list, broken, decisions } = shown;
    let n_pages = list.len().div_ceil(PER_PAGE).max(1);
    let page = query.page_idx().min(n_pages - 1);
    let first = page * PER_PAGE;
    let mut place = 0;
    let body = html! {
        h1 { "Audit" }
        nav {
            a href="/audit" { "All cases" }
            @if !cases.evaluations.is_empty() { a href="/audit/confusions" { "Confusions" } }
        }
        @if let Some(broken) = broken { p class="said" role="alert" { (broken) } }
        p {
            (list.len()) " cases, " (decisions.1) " decisions in " code { (decisions.0) } ". Keys: "
            b { "n" } " and " b { "p" } " go to the next face and back, " b { "k" } " keeps it, " b { "d" }
            " drops it, " b { "r" } " takes the chosen label, " b { "u" } " takes back."
        }
        (filter(cases, query))
        (pages(query, page, n_pages))
        div class="cases" {
            @for case in list.iter().skip(first).take(PER_PAGE) {
                article class="card case" {
                    header {
                        b { (case.kind.words()) @if let Some(task) = &case.task { ": " (task) } }
                        " " (case.words) " "
                        span class="facts" { "suspicion " (format!("{:.2}", case.suspicion)) }
                    }
                    ul {
                        @for face in &case.faces {
                            @let id = { place += 1; place };
                            (self::face(cases, query, case, face, id, decision(&face.file, case)))
                        }
                    }
                }
            }
            @if list.is_empty() { p { "No case is like that." } }
        }
        (pages(query, page, n_pages))
    };
    document("Audit", "/audit", &body)
}

/// Every evaluation's confusions, whose cells lead to their faces.
pub fn confusions(cases: &Cases) -> Html<String> {
    let body = html! {
        h1 { "Confusions" }
        nav { a href="/audit" { "All cases" } }
        p { "A cell leads to its faces." }
        @for (name, record) in &cases.evaluations {
            h2 { (name) }
            div class="grid" {
                @for (i, (task, counts)) in record.evaluation.confusion.iter().enumerate() {
                    @let labels = &record.evaluation.labels[task];
                    @let order = &record.evaluation.display_order[task];
                    @let title = format!("Confusion matrix of {task}, {name}");
                    figure {
                        figcaption { (task) }
                        (HeatMap::new(&title, Color::Task(i), labels, order, counts)
                            .linked(|label, taken_for| format!("/audit?{}", cell(task.as_str(), label, taken_for)))
                            .svg())
                    }
                }
            }
        }
    };
    document("Confusions", "/audit", &body)
}

/// The query of a confusion's cell.
fn cell(task: &str, label: &str, taken_for: &str) -> String {
    let [task, label, predicted] = [task, label, taken_for].map(str::to_owned);
    Query { kind: Kind::Sample.name().to_owned(), task, label, predicted, ..Query::default() }.encoded()
}

fn filter(cases: &Cases, query: &Query) -> Markup {
    let tasks: Vec<&str> = cases.labels.iter().map(|(name, _)| name.as_str()).collect();
    let all = || cases.labels.iter().filter(|(name, _)| query.task.is_empty() || *name == *query.task);
    let mut labels: Vec<&str> = all().flat_map(|(_, labels)| labels).map(String::as_str).collect();
    let mut seen = std::collections::BTreeSet::new();
    labels.retain(|label| seen.insert(*label));
    let kinds = Kind::ALL.map(|kind| (kind.name(), kind.words()));
    let same = |names: &[&'static str]| names.iter().map(|&name| (name, name)).collect::<Vec<_>>();
    let of =
        |names: &[&str]| names.iter().map(|&name| (name.to_owned(), name.to_owned())).collect::<Vec<_>>();
    html! {
        form class="filter" action="/audit" {
            (choice("kind", "Kind", &query.kind, &kinds))
            (choice("task", "Task", &query.task, &of(&tasks)))
            (choice("label", "Label", &query.label, &of(&labels)))
            (choice("predicted", "Taken for", &query.predicted, &of(&labels)))
            (choice("split", "Split", &query.split, &same(&SPLITS)))
            (choice("decided", "Decision", &query.decided, &same(&DECIDED)))
            (choice("sort", "Sort by", &query.sort, &same(&SORTS)))
            button { "Show" }
        }
    }
}

/// A list to choose from, or nothing.
fn choice<T: AsRef<str>>(name: &str, words: &str, chosen: &str, values: &[(T, T)]) -> Markup {
    html! {
        label {
            (words)
            select name=(name) {
                option value="" { @if name == "sort" { "" } @else { "any" } }
                @for (value, words) in values {
                    option value=(value.as_ref()) selected[value.as_ref() == chosen] { (words.as_ref()) }
                }
            }
        }
    }
}

fn pages(query: &Query, page: usize, n_pages: usize) -> Markup {
    html! {
        @if n_pages > 1 {
            nav {
                @if page > 0 { a href={ "/audit?" (query.with_page(page)) } rel="prev" { "Previous" } }
                span { "Page " (page + 1) " of " (n_pages) }
                @if page + 1 < n_pages { a href={ "/audit?" (query.with_page(page + 2)) } rel="next" { "Next" } }
            }
        }
    }
}

fn face(
    cases: &Cases,
    query: &Query,
    case: &Case,
    face: &CaseFace,
    place: usize,
    decision: Option<&Decision>,
) -> Markup {
    let task = case.task.as_ref().map_or("", |task| task.as_str());
    let file: String = form_urlencoded::byte_serialize(face.file.as_bytes()).collect();
    let image = format!("/audit/image?file={file}");
    // The label that it may be given: what was decided, or else what the model says.
    let chosen = match decision {
        Some(Decision::Relabel { label, .. }) => Some(label),
        _ => case.suggested.as_ref(),
    };
    let id = format!("face-{place}");
    html! {
        li id=(id) tabindex="-1" data-decision=(decision.map_or("", Decision::name)) {
            a href={ (image) "&size=large" } {
                img src=(image) alt=(face.file) loading="lazy" width="168" height="168";
            }
            code { (face.file) }
            span {
                @if let Some(split) = face.split { (split) " " }
                @if let Some(label) = &face.label { (task) " " b { (label) } }
            }
            span class="state" role="status" { (decision.map_or(String::new(), words)) }
            form method="post" action="/audit/decide" {
                input type="hidden" name="file" value=(face.file);
                input type="hidden" name="task" value=(task);
                input type="hidden" name="back" value=(query.encoded());
                input type="hidden" name="place" value=(id);
                button name="decision" value="keep" { "keep" }
                button name="decision" value="drop" { "drop" }
                @if let Some(labels) = cases.labels_of(task) {
                    select name="label" aria-label={ "label of " (task) } {
                        option value="" { "label" }
                        @for label in labels {
                            option value=(label) selected[Some(label) == chosen] { (label) }
                        }
                    }
                    button name="decision" value="relabel" { "relabel" }
                }
                button name="decision" value="undo" { "undo" }
            }
        }
    }
}

/// A decision as people read it.
pub fn words(decision: &Decision) -> String {
    match decision {
        Decision::Relabel { label, .. } => format!("relabel: {label}"),
        other => other.name().to_owned(),
    }
}
