//! A run as people look at it: `report.json` and one page, `report.html`.
//!
//! ```text
//! run folder --read--> RunReport --> report.json
//!                          +-------> report.html
//! ```
//!
//! Everything on the page comes from the report, so both files say the same. The run may still be going on, or have
//! been evaluated many times: the report shows what is there. Nothing is trained or evaluated here.

mod compared;
mod curves;
mod findings;
mod origin;
mod page;
mod read;
mod results;
mod series;
mod summary;

use std::path::{Path, PathBuf};

use ff_core::files::write_atomic;
use ff_core::{Encoders, LabelEncoder, Order, PerTask, Schema, Task, TaskName};
use ff_train::records::{EpochRecord, Seconds};
use ff_train::run::RunDir;
use serde::Serialize;

pub use compared::{RunCurves, compared_curves};
pub use read::Provenance;
pub use series::{Bucket, Spread};
pub use summary::TaskSummary;

use crate::charts::Color;
use crate::evaluation::NamedEvaluation;
use crate::thumbnails::Thumbnails;
use crate::{Error, Result};

/// A run, gathered for a reader.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// The run folder's name.
    pub name: String,
    /// What is worth a look: sentences.
    pub findings: Vec<String>,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Images that those steps took, repetitions counted.
    pub images: u64,
    /// Seconds that steps and validations took.
    pub wall_seconds: f64,
    /// The epoch whose checkpoint is `best`: its place in `epochs`.
    pub best: Option<usize>,
    /// Validation figures a task at the best epoch; `None` before the first evaluation.
    pub tasks: Option<PerTask<TaskSummary>>,
    /// Where the time of the finished epochs went.
    pub seconds: Seconds,
    /// Where the run comes from.
    pub provenance: Provenance,
    /// The configuration.
    pub config: toml::Table,
    /// The epochs.
    pub epochs: Vec<EpochRecord>,
    /// The steps, thinned.
    pub series: Vec<Bucket>,
    /// What `evaluate` found; called audits in `report.json` from its first version on.
    #[serde(rename = "audits")]
    pub evaluations: Vec<NamedEvaluation>,
    /// Class ids a task, in the order to show them: ages from young to old.
    pub display_order: PerTask<Vec<usize>>,
    #[serde(skip)]
    pub(crate) encoders: Encoders,
    #[serde(skip)]
    thumbnails: Thumbnails,
    #[serde(skip)]
    config_text: String,
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// Where a report was written.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// The page.
    pub path: PathBuf,
    /// The data behind it.
    pub data: PathBuf,
}

impl RunReport {
    /// Reads what the run has recorded so far, and the faces that its page shows.
    ///
    /// # Errors
    /// As [`RunReport::without_faces`].
    pub fn read(run: &RunDir) -> Result<Self> {
        let mut report = Self::without_faces(run)?;
        report.evaluations.iter().for_each(|evaluation| evaluation.add_faces(&mut report.thumbnails));
        Ok(report)
    }

    /// Reads what the run has recorded so far, and no image: enough for all but the page.
    ///
    /// # Errors
    /// A file of the run that cannot be read or is damaged; a run that has not begun is none.
    pub fn without_faces(run: &RunDir) -> Result<Self> {
        let folder = run.path().to_owned();
        let provenance = read::provenance(&folder)?;
        let (config_text, config) = read::config(&folder)?;
        let records = read::records(&folder)?;
        let evaluations = NamedEvaluation::read_all(&folder)?;
        let encoders = encoders(&folder, &provenance, records.epochs.last())?;
        records.check(&folder, &encoders)?;
        let read::Records { steps, epochs, .. } = records;
        // As `evaluate` has it: where no whole epoch is evaluated, the last checkpoint.
        let best = epochs.iter().rposition(|epoch| epoch.best).or_else(|| epochs.len().checked_sub(1));
        let tasks = best.map(|best| TaskSummary::of_epoch(&epochs[best], &encoders));
        let validations = epochs.iter().map(|epoch| epoch.seconds.evaluation);
        let mut report = Self {
            name: fs_err::canonicalize(&folder)?
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            findings: Vec::new(),
            steps: steps.last().map_or(0, |step| step.step),
            images: steps.iter().fold(0, |sum, step| sum.saturating_add(step.images as u64)),
            wall_seconds: steps.iter().map(|step| step.seconds).chain(validations).sum(),
            best,
            tasks,
            seconds: epochs.iter().fold(Seconds::default(), |sum, epoch| sum.plus(&epoch.seconds)),
            provenance,
            config,
            series: series::thin(&steps),
            epochs,
            display_order: encoders.each(|_, encoder| encoder.display_order()),
            evaluations,
            encoders,
            thumbnails: Thumbnails::default(),
            config_text,
            folder,
        };
        report.findings = findings::of(&report);
        Ok(report)
    }

    /// Writes `report.json` and `report.html` to the run's folder.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn write(&self) -> Result<Written> {
        let written =
            Written { path: self.folder.join("report.html"), data: self.folder.join("report.json") };
        let json = serde_json::to_string(self).expect("a report is JSON");
        write_atomic(&written.data, json.as_bytes())?;
        write_atomic(&written.path, self.html().as_bytes())?;
        Ok(written)
    }

    /// The page.
    pub fn html(&self) -> String {
        page::page(self)
    }

    /// A task's colour: by its place among the others.
    fn color(&self, task: &TaskName) -> Color {
        Color::Task(self.encoders.names().position(|name| name == task).unwrap_or(0))
    }
}

/// The run's tasks and labels. Runs of before `run.json` had labels get numbers for names, and those of before it had
/// tasks FairFace's orders.
fn encoders(run: &Path, provenance: &Provenance, epoch: Option<&EpochRecord>) -> Result<Encoders> {
    let labels = match (&provenance.labels, epoch) {
        (Some(labels), _) => labels.clone(),
        (None, Some(epoch)) => epoch.confusion.each(|_, counts| numbered(counts.n_classes())),
        (None, None) => Schema::fairface().per_task(|_| numbered(1)),
    };
    let encoder = |name: &TaskName, labels: &Vec<String>| {
        let known = provenance.tasks.as_ref().and_then(|tasks| tasks.task(name.as_str()).ok());
        let usual =
            || Task { name: name.clone(), column: name.to_string(), order: Order::of_version_0_1(name) };
        LabelEncoder::from_sorted(known.cloned().unwrap_or_else(usual), labels.clone())
    };
    let encoders = labels.try_each(encoder).and_then(Encoders::new);
    encoders.map_err(|e| Error::BadFile { path: run.join("run.json"), message: e.to_string() })
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|class| format!("class {class:03}")).collect()
}
