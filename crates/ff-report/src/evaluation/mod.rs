//! One evaluation: figures, gaps between groups, calibration, mistakes, suspected labels.
//!
//! ```text
//! EvaluationRecord --> NamedEvaluation --> a section of a run's page
//!                                    +---> EvaluationPage, on its own
//! ```
//!
//! What is shown was computed by [`ff_eval`] and stands in a record; here it only gets its form.

mod calibration;
mod faces;
mod groups;
#[cfg(test)]
mod tests;

use std::path::Path;

use ff_core::TaskName;
use ff_core::files::write_atomic;
use ff_eval::{ConfusionMatrix, EvaluationRecord, GroupMetrics};
use fs_err as fs;
use maud::{Markup, html};
use serde::Serialize;

pub(crate) use groups::{GAP_COLUMNS, INTERSECTION_COLUMNS};

use crate::Result;
use crate::charts::{Color, HeatMap};
use crate::numbers::{figure as number, grouped, percent};
use crate::page::{capital, document, figure, findings, grid, section, table};
use crate::thumbnails::Thumbnails;

/// One evaluation as a page of its own, for those that belong to no run.
///
/// Thumbnails are read when it is made; files that cannot be read leave their names.
#[derive(Debug, Clone)]
pub struct EvaluationPage {
    evaluation: NamedEvaluation,
    thumbnails: Thumbnails,
}

impl EvaluationPage {
    /// A page of `record`, which the page calls `name`: a split, a CSV, a model.
    pub fn new(name: impl Into<String>, record: EvaluationRecord) -> Self {
        let evaluation = NamedEvaluation { name: name.into(), record };
        let mut thumbnails = Thumbnails::default();
        evaluation.add_faces(&mut thumbnails);
        Self { evaluation, thumbnails }
    }

    /// A page of a record that `evaluate` wrote, by the file's name.
    ///
    /// # Errors
    /// The file cannot be read or is no record.
    pub fn read(path: &Path) -> Result<Self> {
        let NamedEvaluation { name, record } = NamedEvaluation::read(path)?;
        Ok(Self::new(name, record))
    }

    /// The page.
    pub fn html(&self) -> String {
        let evaluation = &self.evaluation;
        let sentences: Vec<String> = evaluation.findings().iter().map(|finding| capital(finding)).collect();
        let body = html! {
            header { h1 { (evaluation.heading()) } p class="lead" { (evaluation.source()) } }
            (findings(&sentences))
            (section(&evaluation.section_id(), "Results", &evaluation.body(&self.thumbnails)))
        };
        document(&evaluation.heading(), &self.thumbnails.css(), &body)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomic(path, self.html().as_bytes())?)
    }
}

/// An evaluation and what it is called: a split, or a CSV's name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedEvaluation {
    /// The file's name in `evaluation/`, without its ending.
    pub name: String,
    /// What was found.
    #[serde(flatten)]
    pub record: EvaluationRecord,
}

impl NamedEvaluation {
    /// The evaluations that a run folder holds, by name.
    pub(crate) fn read_all(run: &Path) -> Result<Vec<Self>> {
        let folder = run.join("evaluation");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, record: EvaluationRecord::read(path)? })
    }

    /// What is worth a word at the top of a page; each begins with what it is about.
    pub(crate) fn findings(&self) -> Vec<String> {
        groups::findings(self)
    }

    /// How far the groups lie apart, under [`GAP_COLUMNS`].
    pub(crate) fn gap_rows(&self) -> Vec<Vec<String>> {
        groups::gap_rows(self)
    }

    /// The crossed groups with the lowest accuracy, under [`INTERSECTION_COLUMNS`].
    pub(crate) fn intersection_rows(&self) -> Vec<Vec<String>> {
        groups::intersection_rows(self)
    }

    /// The groups by one attribute each, attribute after attribute.
    pub(crate) fn single_groupings(&self) -> impl Iterator<Item = &[GroupMetrics]> {
        groups::single_groupings(self)
    }

    /// Adds the faces that are shown.
    pub(crate) fn add_faces(&self, thumbnails: &mut Thumbnails) {
        let mistakes = self.record.mistakes.values().flatten().map(|mistake| &mistake.file);
        let suspects = self.record.label_errors.values().flat_map(|errors| &errors.suspects);
        let files = mistakes.chain(suspects.map(|suspect| &suspect.file));
        if let Some(images) = &self.record.source.images {
            files.for_each(|file| thumbnails.add(images, file));
        }
    }

    /// The tasks that were judged.
    fn tasks(&self) -> impl Iterator<Item = &TaskName> + Clone {
        self.record.evaluation.labels.names()
    }

    /// A task's colour: by its place among the others.
    fn color(&self, task: &TaskName) -> Color {
        Color::Task(self.tasks().position(|name| name == task).unwrap_or(0))
    }

    /// The heading of its section or page.
    pub(crate) fn heading(&self) -> String {
        format!("Evaluation: {}", self.name)
    }

    /// The id of its section.
    pub(crate) fn section_id(&self) -> String {
        format!("evaluation-{}", self.slug())
    }

    /// Which model, which samples: a sentence.
    pub(crate) fn source(&self) -> String {
        let source = &self.record.source;
        let mut facts =
            vec![format!("{} images of {}", grouped(self.record.evaluation.n as u64), source.csv.display())];
        facts.extend(source.checkpoint.as_ref().map(|path| format!("checkpoint {}", path.display())));
        facts.extend(source.predictions.as_ref().map(|path| format!("predictions {}", path.display())));
        facts.extend(source.subset.as_ref().map(|column| format!("only rows with {column}")));
        facts.extend(source.tta.description().map(str::to_owned));
        if source.skipped > 0 {
            facts.push(format!("{} images could not be read and do not count", source.skipped));
        }
        format!("{}.", facts.join("; "))
    }

    /// All that was found.
    pub(crate) fn body(&self, thumbnails: &Thumbnails) -> Markup {
        html! {
            (figures(self))
            (groups::gaps(self))
            (groups::bars(self))
            (groups::worst_intersections(self))
            (confusions(self))
            (groups::confusions(self))
            (calibration::curves(self))
            (faces::mistakes(self, thumbnails))
            (faces::suspects(self, thumbnails))
        }
    }

    /// The id of one of its figures.
    fn id(&self, figure: &str) -> String {
        format!("fig-{}-{figure}", self.slug())
    }

    fn slug(&self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }
}

fn figures(evaluation: &NamedEvaluation) -> Markup {
    let rows = evaluation.record.evaluation.tasks.iter().map(|(task, m)| {
        let shares = [Some(m.accuracy), m.one_off, Some(m.balanced_accuracy), Some(m.macro_f1), Some(m.ece)];
        let shares = shares.into_iter().map(|share| share.map_or(String::new(), percent));
        [capital(task.as_str())].into_iter().chain(shares).chain([number(m.nll)]).collect()
    });
    let header = ["", "accuracy", "one-off", "balanced", "macro F1", "ECE", "NLL"];
    table(&header, &rows.collect::<Vec<_>>())
}

fn confusions(evaluation: &NamedEvaluation) -> Markup {
    let figures = evaluation.tasks().map(|task| {
        let title = format!("Confusion matrix of {task}, {}", evaluation.name);
        let counts = &evaluation.record.evaluation.confusion[task];
        let heat = heat_map(evaluation, task, &title, counts);
        figure(&evaluation.id(&format!("confusion-{task}")), &capital(task.as_str()), &heat.svg())
    });
    html! { h3 { "What is taken for what" } (grid(&figures.collect::<Vec<_>>())) }
}

fn heat_map<'a>(
    evaluation: &'a NamedEvaluation,
    task: &TaskName,
    title: &'a str,
    counts: &ConfusionMatrix,
) -> HeatMap<'a> {
    let color = evaluation.color(task);
    let evaluation = &evaluation.record.evaluation;
    HeatMap::new(title, color, &evaluation.labels[task], &evaluation.display_order[task], counts)
}
