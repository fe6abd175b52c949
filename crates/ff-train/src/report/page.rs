//! The page: what a reader wants to know first stands first. One file, no script, nothing from elsewhere.
//!
//! The policy in its head makes the browser refuse whatever is not in the file itself. All text is escaped.

use super::Report;
use super::charts::escape;
use super::numbers::{duration, grouped};
use super::{audit, curves, origin, results};

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The whole page.
pub fn page(report: &Report) -> String {
    let name = escape(&report.name);
    let sections = [
        header(report),
        contents(report),
        results::findings(report),
        results::results(report),
        curves::section_of(report),
        results::confusions(report),
        audit::sections(report),
        origin::time(report),
        origin::epochs(report),
        origin::origin(report),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{name}: training report</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}{}</style>\n</head>\n\
         <body>\n<main>\n{}</main>\n</body>\n</html>\n",
        report.thumbnails.css(),
        sections.concat()
    )
}

/// The run's name, how far it went, where it comes from.
fn header(report: &Report) -> String {
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
    let unknown = || "unknown".to_owned();
    let facts = [
        ("weights", provenance.init.clone().unwrap_or_else(unknown)),
        ("seed", provenance.seed.map_or_else(unknown, |seed| seed.to_string())),
        (
            "commit",
            provenance.commit.as_ref().map_or_else(unknown, |commit| commit.chars().take(10).collect()),
        ),
    ];
    let facts: String =
        facts.iter().map(|(key, value)| format!("<span>{key} <b>{}</b></span>", escape(value))).collect();
    format!(
        "<header><h1>{}</h1><p class=\"lead\">{progress}</p><p class=\"facts\">{facts}</p></header>\n",
        escape(&report.name)
    )
}

/// Links to the sections that there are.
fn contents(report: &Report) -> String {
    let link = |id: &str, heading: &str| format!("<a href=\"#{id}\">{}</a>", escape(heading));
    let mut links = Vec::new();
    if report.tasks.is_some() {
        links.push(link("results", "Results"));
    }
    links.push(link("curves", "Learning"));
    if report.tasks.is_some() {
        links.push(link("confusions", "Confusions"));
    }
    links.extend(report.audits.iter().map(|audit| link(&audit.section_id(), &audit.heading())));
    links.extend([link("time", "Time"), link("origin", "Configuration")]);
    format!("<nav>{}</nav>\n", links.concat())
}

/// A section with a heading.
pub fn section(id: &str, heading: &str, body: &str) -> String {
    format!("<section id=\"{id}\"><h2>{}</h2>\n{body}</section>\n", escape(heading))
}

/// Things side by side where there is room.
pub fn grid(parts: &[String]) -> String {
    format!("<div class=\"grid\">{}</div>\n", parts.concat())
}

/// A chart with its heading.
pub fn figure(id: &str, heading: &str, chart: &str) -> String {
    format!("<figure id=\"{id}\"><figcaption>{}</figcaption>{chart}</figure>\n", escape(heading))
}

/// Something folded away.
pub fn more(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>{body}</details>\n", escape(summary))
}

/// A table; the first column is to the left, the others are numbers.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |cells: &mut dyn Iterator<Item = &str>, tag: &str| {
        let cells: String = cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = cells(&mut header.iter().copied(), "th");
    let body: String = rows.iter().map(|row| cells(&mut row.iter().map(String::as_str), "td")).collect();
    format!("<div class=\"scroll\"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>\n")
}
