//! The part of the page that shows one evaluation: figures, gaps between groups, calibration, mistakes, suspected
//! labels.
//!
//! What is shown was computed by [`crate::evaluation`] and read from `evaluation/*.json`; here it only gets its form.

mod calibration;
mod faces;
mod groups;

use std::path::Path;

use ff_data::Task;
use fs_err as fs;
use serde::Serialize;

use super::Report;
use super::charts::{Color, HeatMap, escape};
use super::findings::capital;
use super::numbers::{figure as number, grouped, percent};
use super::page::{figure, grid, section, table};
use crate::Result;
use crate::evaluation::{EvaluationRecord, TestTimeAugmentation};
use crate::metrics::ConfusionMatrix;

/// An evaluation and what it is called: a split, or a CSV's name.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// The file's name in `evaluation/`, without its ending.
    pub name: String,
    /// What was found.
    #[serde(flatten)]
    pub record: EvaluationRecord,
}

impl Audit {
    /// The evaluations that a run folder holds, by name.
    pub(super) fn read_all(run: &Path) -> Result<Vec<Self>> {
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
        let read = |path: &std::path::PathBuf| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Self { name, record: EvaluationRecord::read(path)? })
        };
        paths.iter().map(read).collect()
    }

    /// What is worth a word at the top of the page.
    pub(super) fn findings(&self) -> Vec<String> {
        groups::findings(self)
    }

    /// The files whose faces the page shows.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let mistakes = self.record.mistakes.values().flatten().map(|mistake| &mistake.file);
        let suspects = self.record.label_errors.values().flat_map(|errors| &errors.suspects);
        mistakes.chain(suspects.map(|suspect| &suspect.file)).map(String::as_str)
    }

    /// The heading of its section.
    pub(super) fn heading(&self) -> String {
        format!("Evaluation: {}", self.name)
    }

    /// The id of its section.
    pub(super) fn section_id(&self) -> String {
        format!("evaluation-{}", self.slug())
    }

    /// The id of one of its figures.
    fn id(&self, figure: &str) -> String {
        format!("fig-{}-{figure}", self.slug())
    }

    fn slug(&self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }
}

/// Every evaluation, a section each.
pub fn sections(report: &Report) -> String {
    let section_of = |audit: &Audit| {
        let body = [
            source(audit),
            figures(audit),
            groups::gaps(audit),
            groups::bars(audit),
            groups::worst_intersections(audit),
            confusions(audit),
            groups::confusions(audit),
            calibration::curves(audit),
            faces::mistakes(audit, &report.thumbnails),
            faces::suspects(audit, &report.thumbnails),
        ];
        section(&audit.section_id(), &audit.heading(), &body.concat())
    };
    report.audits.iter().map(section_of).collect()
}

fn source(audit: &Audit) -> String {
    let source = &audit.record.source;
    let mut facts = vec![
        format!("{} images of {}", grouped(audit.record.evaluation.n as u64), source.csv.display()),
        format!("checkpoint {}", source.checkpoint.display()),
    ];
    facts.extend(source.subset.as_ref().map(|column| format!("only rows with {column}")));
    if source.tta == TestTimeAugmentation::Flip {
        facts.push("probabilities are means over the image and its mirror image".to_owned());
    }
    if source.skipped > 0 {
        facts.push(format!("{} images could not be read and do not count", source.skipped));
    }
    format!("<p>{}.</p>\n", escape(&facts.join("; ")))
}

fn figures(audit: &Audit) -> String {
    let rows = audit.record.evaluation.tasks.iter().map(|(task, m)| {
        let shares = [Some(m.accuracy), m.one_off, Some(m.balanced_accuracy), Some(m.macro_f1), Some(m.ece)];
        let shares = shares.into_iter().map(|share| share.map_or(String::new(), percent));
        [capital(task).to_owned()].into_iter().chain(shares).chain([number(m.nll)]).collect()
    });
    let header = ["", "accuracy", "one-off", "balanced", "macro F1", "ECE", "NLL"];
    table(&header, &rows.collect::<Vec<_>>())
}

fn confusions(audit: &Audit) -> String {
    let evaluation = &audit.record.evaluation;
    let figures = Task::ALL.map(|task| {
        let title = format!("Confusion matrix of {task}, {}", audit.name);
        let heat = heat_map(audit, task, &title, &evaluation.confusion[task]);
        figure(&audit.id(&format!("confusion-{task}")), capital(task), &heat.svg())
    });
    format!("<h3>What is taken for what</h3>\n{}", grid(&figures))
}

fn heat_map<'a>(audit: &'a Audit, task: Task, title: &'a str, counts: &ConfusionMatrix) -> HeatMap<'a> {
    let evaluation = &audit.record.evaluation;
    HeatMap::new(title, Color::Task(task), &evaluation.labels[task], &evaluation.display_order[task], counts)
}
