//! An audit of data as a page: findings, matches with their pictures, bad images, how labels are spread.
//!
//! Lists are cut to what a reader can look through, and say how much more there is; the JSON has everything.

use std::path::Path;

use ff_core::TaskName;
use ff_data::Split;
use ff_data::audit::{Audit, Fault, ImageRecord, LabelCounts, Match, MatchKind, SplitCounts};
use maud::{Markup, html};

use crate::numbers::{fixed, grouped, percent};
use crate::page::{bare_table, document};
use crate::thumbnails::data_uri;

#[cfg(test)]
mod tests;

/// Matches shown with pictures in each list, and pictures shown of each match.
const MAX_MATCHES: usize = 40;
const MAX_PICTURES: usize = 4;
/// Rows of a table of bad images.
const MAX_ROWS: usize = 200;
/// What an audit found, as a page.
#[derive(Debug, Clone, Copy)]
pub struct DataAuditPage<'a> {
    audit: &'a Audit,
    images: &'a Path,
}

impl<'a> DataAuditPage<'a> {
    /// The page's title, by which such a page is known.
    pub const TITLE: &'static str = "Data audit";

    /// The page of an audit. Thumbnails are read from `images` when it is made; one that cannot be read is left empty.
    pub fn new(audit: &'a Audit, images: &'a Path) -> Self {
        Self { audit, images }
    }

    /// The page.
    pub fn html(&self) -> String {
        let body = html! {
            h1 { (Self::TITLE) }
            (self.summary())
            (self.matches())
            (self.bad_images())
            (self.balance())
        };
        document(Self::TITLE, "", &body)
    }

    fn summary(&self) -> Markup {
        let audit = self.audit;
        let tiles = [
            (audit.images, "images", Weight::Plain),
            (audit.unreadable.len(), "unreadable", Weight::Alert),
            (audit.misshapen.len(), "of an odd shape", Weight::Alert),
            (audit.exact_duplicates, "exact copies", Weight::Plain),
            (audit.near_duplicates, "pairs that look the same", Weight::Plain),
            (audit.cross_split.len(), "matches across splits", Weight::Alert),
            (audit.label_conflicts.len(), "matches with other labels", Weight::Alert),
            (audit.alike_labels.len(), "labels in several spellings", Weight::Alert),
        ];
        html! {
            p class="lead" {
                @if audit.cross_split.is_empty() {
                    "No image of one split was found again in another."
                } @else {
                    "Images of one split are found again in another: figures measured there are too good. "
                    code { "fairface split --images DIR" } " keeps duplicates together."
                }
            }
            div class="tiles" {
                @for (n, name, weight) in tiles {
                    div class=(if weight == Weight::Alert && n > 0 { "tile alert" } else { "tile" }) {
                        b { (grouped(n as u64)) } span { (name) }
                    }
                }
            }
        }
    }

    fn matches(&self) -> Markup {
        let (conflicts, others): (Vec<&Match>, Vec<&Match>) =
            self.audit.within_split.iter().partition(|found| !found.conflicts.is_empty());
        html! {
            (self.match_list("Across splits", &self.audit.cross_split.iter().collect::<Vec<_>>()))
            (self.match_list("Within a split, with other labels", &conflicts))
            (self.match_list("Within a split", &others))
        }
    }

    fn match_list(&self, title: &str, matches: &[&Match]) -> Markup {
        if matches.is_empty() {
            return html! {};
        }
        html! {
            section {
                h2 { (title) }
                div class="matches" { @for found in matches.iter().take(MAX_MATCHES) { (self.match_card(found)) } }
                (not_shown(matches.len(), MAX_MATCHES))
            }
        }
    }

    fn match_card(&self, found: &Match) -> Markup {
        let similarity = fixed(f64::from(found.similarity), 2);
        let kind = match found.kind {
            MatchKind::Exact => "same bytes".to_owned(),
            MatchKind::Near => format!("look the same, {similarity}"),
            MatchKind::Mirrored => format!("mirrored, {similarity}"),
        };
        html! {
            figure {
                figcaption { (kind) }
                div class="pictures" {
                    @for image in found.images.iter().take(MAX_PICTURES) { (self.picture(image, &found.conflicts)) }
                }
                (not_shown(found.images.len(), MAX_PICTURES))
            }
        }
    }

    fn picture(&self, image: &ImageRecord, conflicts: &[TaskName]) -> Markup {
        let uri = data_uri(&self.images.join(&image.file)).unwrap_or_default();
        html! {
            div {
                img src=(uri) alt=(image.file) loading="lazy";
                p {
                    b { (image.split.name()) } " " (image.file) br;
                    @for (i, (task, label)) in image.labels.iter().enumerate() {
                        @if i > 0 { ", " }
                        span class=[conflicts.contains(task).then_some("conflict")] { (label.as_deref().unwrap_or("unknown")) }
                    }
                }
            }
        }
    }

    fn bad_images(&self) -> Markup {
        let row = |image: &ImageRecord, rest: &[&str]| {
            let cells = [image.split.name().to_owned(), image.file.clone(), image.line.to_string()];
            cells.into_iter().chain(rest.iter().map(|&cell| cell.to_owned())).collect()
        };
        let unreadable = self.audit.unreadable.iter().map(|bad| row(&bad.image, &[&bad.reason]));
        let misshapen = self.audit.misshapen.iter().map(|bad| {
            let fault = match bad.fault {
                Fault::Tiny => "tiny",
                Fault::Stretched => "stretched",
                Fault::Blank => "blank",
            };
            row(&bad.image, &[fault, &format!("{} x {}", bad.size.width, bad.size.height)])
        });
        html! {
            (bad_list("Unreadable images", &["split", "file", "line", "reason"], unreadable))
            (bad_list("Images of an odd shape", &["split", "file", "line", "fault", "size"], misshapen))
        }
    }

    fn balance(&self) -> Markup {
        html! {
            section {
                h2 { "Labels" }
                @for found in &self.audit.alike_labels {
                    p { "one " (found.task) " in several spellings: " (found.labels.join(", ")) }
                }
                p class="legend" {
                    "share of a split: "
                    @for split in Split::ALL { span class=(split.name()) { i {} (split.name()) } }
                }
                div class="balance" { @for (task, labels) in &self.audit.balance { (balance(task, labels, &self.audit.unknown[task])) } }
            }
        }
    }
}

/// How a count is shown that is not 0.
#[derive(Clone, Copy, PartialEq)]
enum Weight {
    Plain,
    Alert,
}

/// A row a label: rows and share in every split, and the shares as bars on one scale. Shares are of the rows whose
/// label is known; the others are counted below them.
fn balance(task: &TaskName, labels: &[LabelCounts], unknown: &SplitCounts) -> Markup {
    let totals = Split::ALL.map(|split| labels.iter().map(|label| label.of(split)).sum::<usize>());
    let share =
        |label: &LabelCounts, split: Split| label.of(split) as f64 / totals[split as usize].max(1) as f64;
    let shares = labels.iter().flat_map(|label| Split::ALL.map(|split| share(label, split)));
    let largest = shares.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let width = |label: &LabelCounts, split: Split| fixed(120.0 * share(label, split) / largest, 1);
    html! {
        figure {
            figcaption { (task) }
            table {
                tr { th {} @for split in Split::ALL { th { (split.name()) } } th {} }
                @for label in labels {
                    tr {
                        td { (label.label) }
                        @for split in Split::ALL {
                            td { (grouped(label.of(split) as u64)) " " small { (percent(share(label, split))) } }
                        }
                        td {
                            svg class="shares" viewBox="0 0 120 26" role="img" aria-hidden="true" {
                                @for split in Split::ALL {
                                    rect class=(split.name()) y=(9 * split as usize) width=(width(label, split)) height="7" {}
                                }
                            }
                        }
                    }
                }
                @if Split::ALL.iter().any(|&split| unknown.of(split) > 0) {
                    tr {
                        td { "unknown" }
                        @for split in Split::ALL { td { (grouped(unknown.of(split) as u64)) } }
                        td {}
                    }
                }
            }
        }
    }
}

/// Bad images, a row each; nothing where there are none.
fn bad_list(title: &str, header: &[&str], rows: impl ExactSizeIterator<Item = Vec<String>>) -> Markup {
    let n = rows.len();
    if n == 0 {
        return html! {};
    }
    let shown: Vec<_> = rows.take(MAX_ROWS).collect();
    html! {
        section {
            h2 { (title) }
            figure class="list" { (bare_table(header, &shown)) }
            (not_shown(n, MAX_ROWS))
        }
    }
}

/// How many are not shown.
fn not_shown(n: usize, shown: usize) -> Markup {
    html! { @if n > shown { p { small { "and " (grouped((n - shown) as u64)) " more" } } } }
}
