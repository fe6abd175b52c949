//! Runs of several seeds, side by side: how much of a figure is luck of the seed.
//!
//! What is shown was computed by [`ff_eval::over_runs`]; here it only gets its form.

use std::path::Path;

use ff_core::files::write_atomic;
use ff_core::{PerTask, TaskName};
use ff_eval::{Figure, FigureOverRuns, TaskMetrics};
use ff_train::seeds::{FinishedRun, SeedsRecord};
use maud::{Markup, html};

use crate::Result;
use crate::charts::{Color, DotChart, DotRow, Unit};
use crate::comparison::compared;
use crate::numbers::{figure as number, grouped};
use crate::page::{capital, document, figure, grid, section, table};
use crate::run::Written;

/// The record of several seeds as a page, `seeds.html`.
#[derive(Debug, Clone, Copy)]
pub struct SeedsPage<'a> {
    record: &'a SeedsRecord,
}

/// Validation figures of a run: of its weights, or of their moving average.
type Metrics<'a> = &'a PerTask<TaskMetrics>;

impl<'a> SeedsPage<'a> {
    /// The file's name in the folder of the record.
    const FILE: &'static str = "seeds.html";

    /// A page of this record.
    pub fn new(record: &'a SeedsRecord) -> Self {
        Self { record }
    }

    /// The page.
    pub fn html(&self) -> String {
        let SeedsRecord { seeds, runs, figures, ema, .. } = self.record;
        let title = format!("{} of {} seeds", runs.len(), seeds.len());
        let body = html! {
            header {
                h1 { (title) }
                p class="lead" {
                    "Runs that differ in their seed alone, and the validation figures of their last epochs. After \
                    \u{b1} stands the standard deviation over the runs, in brackets the standard error of the mean."
                }
                p {
                    "This is the luck of initial values, order and augmentation. All runs have the same faces: what \
                    other faces would change is on top, and stands as an interval in each run's report."
                }
            }
            (section("figures", "Mean and deviation", &means(figures)))
            (section("dots", "Every run", &dots("val", figures, runs, |run| Some(&run.val))))
            @if !ema.is_empty() {
                (section("ema-figures", "Moving average: mean and deviation", &means(ema)))
                (section("ema-dots", "Moving average: every run", &dots("ema", ema, runs, |run| run.ema.as_ref())))
            }
            (section("runs", "Runs", &self.runs()))
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
        Ok(Written { path, data: folder.join(SeedsRecord::FILE) })
    }

    fn runs(&self) -> Markup {
        let run = |seed: u64| self.record.runs.iter().find(|run| run.seed == seed);
        html! {
            table {
                thead { tr { th { "seed" } th { "steps" } th { "epochs" } th { "train loss" } th {} } }
                tbody {
                    @for &seed in &self.record.seeds {
                        tr {
                            @match run(seed) {
                                Some(run) => {
                                    // From the number: a file's text would be any address.
                                    td { a href={ "seed-" (seed) "/report.html" } { (seed) } }
                                    td { (grouped(run.steps)) }
                                    td { (grouped(run.epochs)) }
                                    td { (run.train_loss.map_or(String::new(), number)) }
                                    td { (if run.stopped_early { "stopped early" } else { "" }) }
                                }
                                None => { td { (seed) } td {} td {} td {} td { "not finished" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `40.8 ± 2.1 (0.9)`.
fn summary(row: &FigureOverRuns) -> String {
    let show = |value| compared(row.figure, value);
    let spread = row.deviation.zip(row.standard_error);
    let spread = spread.map(|(deviation, error)| format!(" \u{b1} {} ({})", show(deviation), show(error)));
    show(row.mean) + &spread.unwrap_or_default()
}

/// The figures that any task has.
fn figures_of(rows: &[FigureOverRuns]) -> Vec<Figure> {
    Figure::OF_SAMPLES.into_iter().filter(|figure| rows.iter().any(|row| row.figure == *figure)).collect()
}

/// The tasks, in their order.
fn tasks_of(rows: &[FigureOverRuns]) -> Vec<&TaskName> {
    let mut tasks: Vec<&TaskName> = rows.iter().map(|row| &row.task).collect();
    tasks.dedup();
    tasks
}

fn name(figure: Figure) -> String {
    figure.name().replace('_', " ")
}

/// A row a task, a column a figure.
fn means(rows: &[FigureOverRuns]) -> Markup {
    if rows.is_empty() {
        return html! { p { "No run is finished yet." } };
    }
    let figures = figures_of(rows);
    let names: Vec<String> = figures.iter().map(|figure| name(*figure)).collect();
    let header: Vec<&str> = [""].into_iter().chain(names.iter().map(String::as_str)).collect();
    let line = |task: &&TaskName| {
        let of = |figure: &Figure| rows.iter().find(|row| row.task == **task && row.figure == *figure);
        let cells = figures.iter().map(|figure| of(figure).map_or(String::new(), summary));
        [capital(task.as_str())].into_iter().chain(cells).collect()
    };
    table(&header, &tasks_of(rows).iter().map(line).collect::<Vec<_>>())
}

/// A chart a figure: a row a task, a dot a run.
fn dots<'a>(
    of: &str,
    rows: &[FigureOverRuns],
    runs: &'a [FinishedRun],
    metrics: impl Fn(&'a FinishedRun) -> Option<Metrics<'a>>,
) -> Markup {
    let tasks = tasks_of(rows);
    let row = |row: &FigureOverRuns| {
        let value = |run| row.figure.of(metrics(run)?.get(row.task.as_str())?);
        let dot = |run: &'a FinishedRun| Some((format!("seed {}", run.seed), value(run)?));
        DotRow {
            label: row.task.to_string(),
            color: Color::Task(tasks.iter().position(|task| **task == row.task).unwrap_or(0)),
            dots: runs.iter().filter_map(dot).collect(),
            mean: row.mean,
            deviation: row.deviation,
        }
    };
    let chart = |shown: Figure| {
        let (name, unit) = (name(shown), if shown == Figure::Nll { Unit::Number } else { Unit::Share });
        let rows = rows.iter().filter(|row| row.figure == shown).map(row).collect();
        let title = format!("{name} of every run");
        let chart = DotChart { title: &title, label: &name, unit, rows };
        figure(&format!("{of}-{}", shown.name()), &capital(&name), &chart.svg())
    };
    grid(&figures_of(rows).into_iter().map(chart).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use ff_core::Schema;
    use ff_eval::over_runs;

    use super::*;

    fn record() -> SeedsRecord {
        let metrics = |accuracy| TaskMetrics { accuracy, nll: 2.0 * accuracy, ..TaskMetrics::UNDEFINED };
        let run = |(seed, accuracy): (u64, f64)| FinishedRun {
            seed,
            run: "javascript:<x>".to_owned(),
            steps: 1200,
            epochs: 5,
            stopped_early: seed == 9,
            skipped_steps: 0,
            train_loss: Some(2.5),
            val: Schema::fairface().per_task(|_| metrics(accuracy)),
            ema: None,
        };
        let runs: Vec<_> = [(7, 0.4), (8, 0.5), (9, 0.6)].map(run).into();
        let val: Vec<_> = runs.iter().map(|run| &run.val).collect();
        let figures = over_runs(&val);
        let settings = "seed-7/config.toml".into();
        SeedsRecord { seeds: vec![7, 8, 9, 10], settings, runs, figures, ema: Vec::new() }
    }

    #[test]
    fn a_page_has_every_run_and_what_they_come_to() {
        let page = SeedsPage::new(&record()).html();
        for needle in [
            "<title>3 of 4 seeds</title>",
            // Of 0.4, 0.5 and 0.6 the deviation is 0.1, the error 0.1 / sqrt(3).
            "<td>Age</td><td>50.0 \u{b1} 10.0 (5.8)</td><td>1.0000 \u{b1} 0.2000 (0.1155)</td>",
            "race, seed 8: 50.0 %",
            "gender, seed 9: 1.20",
            "<a href=\"seed-7/report.html\">7</a></td><td>1,200</td><td>5</td><td>2.50</td>",
            "<td>stopped early</td>",
            "<td>10</td><td></td><td></td><td></td><td>not finished</td>",
        ] {
            assert!(page.contains(needle), "the page lacks {needle}: {page}");
        }
        assert_eq!(page.matches("<circle").count(), 2 * 3 * 3, "a dot a figure, task and run");
        assert!(!page.contains("javascript") && !page.contains("Moving average"), "{page}");
    }

    #[test]
    fn moving_averages_stand_beside_and_a_folder_without_a_finished_run_has_a_page() {
        let mut record = record();
        record.runs.iter_mut().for_each(|run| run.ema = Some(run.val.clone()));
        record.ema.clone_from(&record.figures);
        let page = SeedsPage::new(&record).html();
        assert_eq!(page.matches("50.0 \u{b1} 10.0 (5.8)").count(), 2 * 3);
        assert!(page.contains("id=\"ema-nll\"") && page.contains("id=\"val-nll\""), "{page}");
        let none = SeedsRecord { runs: Vec::new(), figures: Vec::new(), ema: Vec::new(), ..record };
        let page = SeedsPage::new(&none).html();
        assert!(
            page.contains("<title>0 of 4 seeds</title>") && page.contains("No run is finished yet."),
            "{page}"
        );
    }
}
