//! An audit as one HTML page that needs nothing else: styles, bars and thumbnails are in it.
//!
//! Lists are cut to what a reader can look through, and say how much more there is; the JSON has everything.

use std::{
    fmt::{Display, Write},
    path::Path,
};

use ff_core::TaskName;

use super::{Audit, Fault, ImageRecord, LabelCounts, Match, MatchKind};
use crate::{split::Split, thumbnail::thumbnail_uri};

/// Matches shown with pictures in each list, and pictures shown of each match.
const MAX_MATCHES: usize = 40;
const MAX_PICTURES: usize = 4;
/// Rows of a table of bad images.
const MAX_ROWS: usize = 200;
/// Pixels of a thumbnail's longer side.
const THUMBNAIL: usize = 112;

impl Audit {
    /// The page. Thumbnails are read from `images`; one that cannot be read is left empty.
    pub fn page(&self, images: &Path) -> String {
        let page = Page { audit: self, images };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
            <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Data audit</title>\n\
            <style>\n{}</style>\n</head>\n<body>\n<main>\n<h1>Data audit</h1>\n{}{}{}{}</main>\n</body>\n</html>\n",
            include_str!("style.css"),
            page.summary(),
            page.matches(),
            page.bad_images(),
            page.balance(),
        )
    }
}

struct Page<'a> {
    audit: &'a Audit,
    images: &'a Path,
}

impl Page<'_> {
    fn summary(&self) -> String {
        let audit = self.audit;
        let finding = |n: usize, name: &str, alert: bool| {
            let class = if alert && n > 0 { "tile alert" } else { "tile" };
            format!("<div class=\"{class}\"><b>{n}</b><span>{name}</span></div>\n")
        };
        let tiles = [
            finding(audit.images, "images", false),
            finding(audit.unreadable.len(), "unreadable", true),
            finding(audit.misshapen.len(), "of an odd shape", true),
            finding(audit.exact_duplicates, "exact copies", false),
            finding(audit.near_duplicates, "pairs that look the same", false),
            finding(audit.cross_split.len(), "matches across splits", true),
            finding(audit.label_conflicts.len(), "matches with other labels", true),
            finding(audit.alike_labels.len(), "labels in several spellings", true),
        ];
        let verdict = if audit.cross_split.is_empty() {
            "No image of one split was found again in another."
        } else {
            "Images of one split are found again in another: figures measured there are too good. \
             <code>fairface split --images DIR</code> keeps duplicates together."
        };
        format!("<p class=\"lead\">{verdict}</p>\n<div class=\"tiles\">\n{}</div>\n", tiles.concat())
    }

    fn matches(&self) -> String {
        let conflicts: Vec<&Match> =
            self.audit.within_split.iter().filter(|found| !found.conflicts.is_empty()).collect();
        let others: Vec<&Match> =
            self.audit.within_split.iter().filter(|found| found.conflicts.is_empty()).collect();
        [
            self.match_list("Across splits", &self.audit.cross_split.iter().collect::<Vec<_>>()),
            self.match_list("Within a split, with other labels", &conflicts),
            self.match_list("Within a split", &others),
        ]
        .concat()
    }

    fn match_list(&self, title: &str, matches: &[&Match]) -> String {
        if matches.is_empty() {
            return String::new();
        }
        let shown: String = matches.iter().take(MAX_MATCHES).map(|found| self.match_card(found)).collect();
        let more = more(matches.len(), MAX_MATCHES);
        format!("<section>\n<h2>{title}</h2>\n<div class=\"matches\">\n{shown}</div>\n{more}</section>\n")
    }

    fn match_card(&self, found: &Match) -> String {
        let kind = match found.kind {
            MatchKind::Exact => "same bytes".to_owned(),
            MatchKind::Near => format!("look the same, {:.2}", found.similarity),
            MatchKind::Mirrored => format!("mirrored, {:.2}", found.similarity),
        };
        let pictures: String = found
            .images
            .iter()
            .take(MAX_PICTURES)
            .map(|image| self.picture(image, &found.conflicts))
            .collect();
        let more = more(found.images.len(), MAX_PICTURES);
        format!(
            "<figure>\n<figcaption>{kind}</figcaption>\n<div class=\"pictures\">\n{pictures}</div>\n{more}</figure>\n"
        )
    }

    fn picture(&self, image: &ImageRecord, conflicts: &[TaskName]) -> String {
        let uri = thumbnail_uri(&self.images.join(&image.file), THUMBNAIL).unwrap_or_default();
        let label = |(task, label): (&TaskName, &Option<String>)| {
            let class = if conflicts.contains(task) { " class=\"conflict\"" } else { "" };
            format!("<span{class}>{}</span>", escaped(label.as_deref().unwrap_or("unknown")))
        };
        let labels: Vec<String> = image.labels.iter().map(label).collect();
        let (file, split) = (escaped(&image.file), image.split.name());
        format!(
            "<div><img src=\"{uri}\" alt=\"{file}\" loading=\"lazy\"><p><b>{split}</b> {file}<br>{}</p></div>\n",
            labels.join(", ")
        )
    }

    fn bad_images(&self) -> String {
        let unreadable = self.audit.unreadable.iter().map(|bad| {
            row(&[bad.image.split.name(), &bad.image.file, &bad.image.line.to_string(), &bad.reason])
        });
        let misshapen = self.audit.misshapen.iter().map(|bad| {
            let fault = match bad.fault {
                Fault::Tiny => "tiny",
                Fault::Stretched => "stretched",
                Fault::Blank => "blank",
            };
            let size = format!("{} x {}", bad.size.width, bad.size.height);
            row(&[bad.image.split.name(), &bad.image.file, &bad.image.line.to_string(), fault, &size])
        });
        [
            table("Unreadable images", &["split", "file", "line", "reason"], unreadable.collect()),
            table("Images of an odd shape", &["split", "file", "line", "fault", "size"], misshapen.collect()),
        ]
        .concat()
    }

    fn balance(&self) -> String {
        let legend = Split::ALL.map(|split| {
            let name = split.name();
            format!("<span class=\"{name}\"><i></i>{name}</span>")
        });
        let tables: String = self.audit.balance.iter().map(|(task, labels)| balance(task, labels)).collect();
        let alike: String = self
            .audit
            .alike_labels
            .iter()
            .map(|found| {
                format!(
                    "<p class=\"more\">one {} in several spellings: {}</p>\n",
                    found.task,
                    escaped(found.labels.join(", "))
                )
            })
            .collect();
        format!(
            "<section>\n<h2>Labels</h2>\n{alike}<p class=\"legend\">share of a split: {}</p>\n<div class=\"balance\">\n{tables}</div>\n</section>\n",
            legend.concat()
        )
    }
}

/// A row a label: rows and share in every split, and the shares as bars on one scale.
fn balance(task: &TaskName, labels: &[LabelCounts]) -> String {
    let totals = Split::ALL.map(|split| labels.iter().map(|label| label.of(split)).sum::<usize>());
    let share =
        |label: &LabelCounts, split: Split| label.of(split) as f64 / totals[split as usize].max(1) as f64;
    let shares = labels.iter().flat_map(|label| Split::ALL.map(|split| share(label, split)));
    let largest = shares.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut rows = String::new();
    for label in labels {
        let cells = Split::ALL.map(|split| {
            format!("<td>{} <small>{:.1} %</small></td>", label.of(split), 100.0 * share(label, split))
        });
        let bars = Split::ALL.map(|split| {
            let (y, width) = (9 * split as usize, 120.0 * share(label, split) / largest);
            format!("<rect class=\"{}\" y=\"{y}\" width=\"{width:.1}\" height=\"7\"/>", split.name())
        });
        writeln!(
            rows,
            "<tr><td>{}</td>{}<td><svg viewBox=\"0 0 120 26\" role=\"img\" aria-hidden=\"true\">{}</svg></td></tr>",
            escaped(&label.label),
            cells.concat(),
            bars.concat()
        )
        .expect("writing into memory cannot fail");
    }
    let header = "<tr><th></th><th>train</th><th>val</th><th>test</th><th></th></tr>";
    format!("<figure><figcaption>{task}</figcaption>\n<table>\n{header}\n{rows}</table></figure>\n")
}

fn row(cells: &[&str]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

fn table(title: &str, header: &[&str], rows: Vec<String>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header: String = header.iter().map(|cell| format!("<th>{cell}</th>")).collect();
    let shown: String = rows.iter().take(MAX_ROWS).map(String::as_str).collect();
    let more = more(rows.len(), MAX_ROWS);
    format!(
        "<section>\n<h2>{title}</h2>\n<figure class=\"list\"><table>\n<tr>{header}</tr>\n{shown}</table></figure>\n{more}</section>\n"
    )
}

/// How many are not shown.
fn more(n: usize, shown: usize) -> String {
    if n > shown { format!("<p class=\"more\">and {} more</p>\n", n - shown) } else { String::new() }
}

fn escaped(text: impl Display) -> String {
    let text = text.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}
