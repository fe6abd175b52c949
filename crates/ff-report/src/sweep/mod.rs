//! A sweep as a page: alternatives beside their baseline, with what chance there is in every difference.
//!
//! What is shown was computed by [`ff_train::sweep`]; here it only gets its form.

use std::path::Path;

use ff_core::files::write_atomic;
use ff_eval::{Figure, Interval};
use ff_train::sweep::{AlternativeRecord, PairedDifference, Row, SweepRecord, SweptRun};
use maud::{Markup, html};

use crate::Result;
use crate::charts::{Color, DotChart, DotRow, Unit};
use crate::comparison::compared;
use crate::numbers::duration;
use crate::page::{capital, document, figure, section, table};
use crate::run::Written;

/// The record of a sweep as a page, `sweep.html`.
#[derive(Debug, Clone, Copy)]
pub struct SweepPage<'a> {
    record: &'a SweepRecord,
}

impl<'a> SweepPage<'a> {
    /// The file's name in the folder of the record.
    const FILE: &'static str = "sweep.html";

    /// A page of this record.
    pub fn new(record: &'a SweepRecord) -> Self {
        Self { record }
    }

    /// The page.
    pub fn html(&self) -> String {
        let SweepRecord { baseline, alternatives, seeds, .. } = self.record;
        let title = format!("{} alternatives, {} seeds", alternatives.len(), seeds.len());
        let body = html! {
            header {
                h1 { (title) }
                p class="lead" {
                    "Validation accuracy at the runs' last epochs, of the weights' average where they keep one. After \
                    \u{b1} stands the standard deviation over the seeds. Differences are those from " (baseline)
                    ", paired by seed."
                }
                p {
                    "Beside a difference stand two 95 % intervals: over other seeds with these faces, and over other \
                    faces with these seeds. A difference that is more than luck has both above or below zero; of \
                    twenty that are nothing else, one has not."
                }
            }
            @for task in self.tasks() {
                (section(task.unwrap_or("mean"), &heading(task), &self.table(task)))
            }
            (section("runs", "Every run", &self.dots()))
            (section("settings", "What differs", &self.settings()))
        };
        document(&title, "", &body)
    }

    /// Writes the page into the folder of the record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Written> {
        let path = folder.join(Self::FILE);
        write_atomic(&path, self.html().as_bytes())?;
        Ok(Written { path, data: folder.join(SweepRecord::FILE) })
    }

    /// The mean, then every task.
    fn tasks(&self) -> Vec<Option<&str>> {
        let mut tasks: Vec<Option<&str>> =
            self.record.table.iter().map(|row| row.task.as_ref().map(|task| task.as_str())).collect();
        tasks.dedup();
        tasks
    }

    fn rows<'r>(&'r self, task: Option<&'r str>) -> impl Iterator<Item = &'r Row> {
        self.record.table.iter().filter(move |row| row.task.as_ref().map(|task| task.as_str()) == task)
    }

    fn table(&self, task: Option<&str>) -> Markup {
        let rows: Vec<Vec<String>> = self
            .rows(task)
            .map(|row| {
                let [difference, of_seeds, of_faces] = difference_cells(row.difference.as_ref());
                vec![row.alternative.clone(), summary(row), difference, of_seeds, of_faces, row.n.to_string()]
            })
            .collect();
        table(&["", "accuracy", "difference", "over seeds", "over faces", "runs"], &rows)
    }

    /// A row an alternative, a dot a run: the mean over the tasks.
    fn dots(&self) -> Markup {
        let row = |row: &Row| {
            let alternative = self.record.alternatives.iter().find(|a| a.name == row.alternative);
            let runs = alternative.map_or(&[][..], |alternative| &alternative.runs);
            let known = |run: &SweptRun| {
                let values = run.figures().values().map(|figures| figures.accuracy);
                let values: Vec<f64> = values.filter(|x| !x.is_nan()).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                (format!("seed {}", run.run.seed), mean)
            };
            DotRow {
                label: row.alternative.clone(),
                color: Color::Task(0),
                dots: runs.iter().map(known).collect(),
                mean: row.mean,
                deviation: row.deviation,
            }
        };
        let rows: Vec<DotRow> = self.rows(None).map(row).collect();
        if rows.is_empty() {
            return html! { p { "No run is finished yet." } };
        }
        let chart = DotChart { title: "accuracy of every run", label: "accuracy", unit: Unit::Share, rows };
        figure("dots", "Mean over the tasks", &chart.svg())
    }

    fn settings(&self) -> Markup {
        let row = |alternative: &AlternativeRecord| {
            let n = alternative.runs.len();
            let seconds: f64 = alternative.runs.iter().map(|run| run.seconds).sum();
            let each = if n == 0 { String::new() } else { duration(seconds / n as f64) };
            let changes = match alternative.name == self.record.baseline {
                true => "the baseline".to_owned(),
                false => alternative.changes.join("; "),
            };
            vec![alternative.name.clone(), each, changes]
        };
        table(&["", "a run took", "settings"], &self.record.alternatives.iter().map(row).collect::<Vec<_>>())
    }
}

fn heading(task: Option<&str>) -> String {
    task.map_or("Mean over the tasks".to_owned(), capital)
}

/// `40.8 ± 2.1`.
fn summary(row: &Row) -> String {
    let show = |value| compared(Figure::Accuracy, value);
    show(row.mean) + &row.deviation.map(|d| format!(" \u{b1} {}", show(d))).unwrap_or_default()
}

/// A difference, and its intervals over seeds and over faces.
pub fn difference_cells(difference: Option<&PairedDifference>) -> [String; 3] {
    let signed = |value: f64| {
        let text = compared(Figure::Accuracy, value);
        if value > 0.0 { format!("+{text}") } else { text }
    };
    let interval = |interval: Option<Interval>| {
        interval.map_or(String::new(), |i| format!("[{}, {}]", signed(i.low), signed(i.high)))
    };
    let Some(difference) = difference else { return Default::default() };
    [signed(difference.mean), interval(difference.of_seeds), interval(difference.of_faces)]
}

#[cfg(test)]
mod tests {
    use ff_core::TaskName;

    use super::*;

    #[test]
    fn a_page_shows_every_alternative_and_nothing_of_a_file_becomes_markup() {
        let row = |alternative: &str, task: Option<&str>, mean: f64, difference| Row {
            alternative: alternative.to_owned(),
            task: task.map(|task| TaskName::new(task).unwrap()),
            mean,
            deviation: Some(0.01),
            n: 2,
            difference,
        };
        let difference = PairedDifference {
            mean: 0.02,
            deviation: Some(0.01),
            n: 2,
            of_seeds: Some(Interval { low: -0.07, high: 0.11 }),
            of_faces: Some(Interval { low: 0.005, high: 0.035 }),
        };
        let alternative = |name: &str| AlternativeRecord {
            name: name.to_owned(),
            changes: vec!["loss.teacher: none -> <b>".to_owned()],
            runs: Vec::new(),
        };
        let record = SweepRecord {
            baseline: "plain".to_owned(),
            seeds: vec![1, 2],
            alternatives: ["plain", "better"].map(alternative).into(),
            table: vec![
                row("plain", None, 0.5, None),
                row("better", None, 0.52, Some(difference.clone())),
                row("plain", Some("age"), 0.4, None),
                row("better", Some("age"), 0.42, Some(difference)),
            ],
        };
        let page = SweepPage::new(&record).html();
        for needle in [
            "<h2>Mean over the tasks</h2>",
            "<h2>Age</h2>",
            "<td>better</td><td>52.0 \u{b1} 1.0</td><td>+2.0</td><td>[-7.0, +11.0]</td><td>[+0.5, +3.5]</td><td>2</td>",
            "<td>the baseline</td>",
            "none -&gt; &lt;b&gt;",
        ] {
            assert!(page.contains(needle), "the page lacks {needle}: {page}");
        }
    }
}
