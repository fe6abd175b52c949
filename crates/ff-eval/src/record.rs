//! Everything that an evaluation finds, in one record: what `evaluate` prints and saves, and what a report shows.

use std::path::{Path, PathBuf};

use ff_core::files::write_atomic;
use ff_core::text::list;
use ff_core::{Encoders, PerTask};
use serde::{Deserialize, Serialize};

use crate::{
    Bootstrap, Calibration, Confusion, Disparities, Error, Evaluation, GroupTask, Join, LabelErrors, Mistake,
    Predictions, Result, disparities, label_errors, mistakes, top_confusions,
};

/// What was found out about a model on some samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Whose predictions, of which samples.
    pub source: EvaluationSource,
    /// Metrics, counts and groups.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The classes mixed up most, a task.
    pub top_confusions: PerTask<Vec<Confusion>>,
    /// How far groups lie apart, grouping after grouping.
    pub disparities: Vec<Disparities>,
    /// How the disparities' intervals were made.
    pub bootstrap: Bootstrap,
    /// What temperature scaling does, where it was asked for.
    pub calibration: Option<Calibration>,
    /// The surest mistakes, a task.
    pub mistakes: PerTask<Vec<Mistake>>,
    /// Suspected labels, a task.
    pub label_errors: PerTask<LabelErrors>,
}

/// What a record is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSource {
    /// The folder of the checkpoint that predicted, if one of ours did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Optimiser steps that it had taken: which of a run's checkpoints it was, whatever they are called by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// What it computed with: `f32`, `bf16` or `tf32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// The file that the predictions are from, if they are from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PathBuf>,
    /// How predictions and labels of a file went together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// The labels.
    pub csv: PathBuf,
    /// The folder that file names are relative to, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// The column that a row had to be true in, if not all rows count.
    pub subset: Option<String>,
    /// What probabilities are averaged over.
    #[serde(default)]
    pub tta: TestTimeAugmentation,
    /// Images that could not be read and do not count.
    #[serde(default)]
    pub skipped: usize,
}

/// Views of an image whose probabilities are averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestTimeAugmentation {
    /// The image alone.
    #[default]
    None,
    /// The image and its mirror image; the mean is of probabilities, not of logits.
    Flip,
    /// The same two as they are and moved left, right, up and down by a 28th of their side, 8 of 224 pixels: ten views.
    Shifts,
}

/// A view of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Whether left and right change places.
    pub mirrored: bool,
    /// How far it is moved right and down, after that, in 28ths of the side.
    pub shift: (i32, i32),
}

impl View {
    /// What a shift is a multiple of, for a side of so many pixels.
    pub fn pixels(side: usize) -> i32 {
        (side / 28).max(1) as i32
    }
}

impl TestTimeAugmentation {
    /// The views, the image itself first.
    pub fn views(self) -> Vec<View> {
        let shifts: &[(i32, i32)] = match self {
            Self::None => return vec![View::default()],
            Self::Flip => &[(0, 0)],
            Self::Shifts => &[(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)],
        };
        shifts.iter().flat_map(|&shift| [false, true].map(|mirrored| View { mirrored, shift })).collect()
    }

    /// What is said of it.
    pub fn description(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Flip => Some("probabilities are means over the image and its mirror image"),
            Self::Shifts => Some(
                "probabilities are means over ten views: the image and its mirror image, as they are and moved four ways",
            ),
        }
    }
}

/// How much to find out.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Tasks and further columns to group by; their intersections follow.
    pub group_by: Vec<String>,
    /// Intervals of the disparities.
    pub bootstrap: Bootstrap,
    /// Confusions listed a task.
    pub n_confusions: usize,
    /// Mistakes listed a task.
    pub n_mistakes: usize,
    /// Suspected labels listed a task.
    pub n_suspects: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let bootstrap = Bootstrap::default();
        Self { group_by: Vec::new(), bootstrap, n_confusions: 10, n_mistakes: 24, n_suspects: 50 }
    }
}

impl EvaluationRecord {
    /// Finds out all there is to know about some predictions. A calibration is the caller's to make, from other
    /// samples.
    ///
    /// # Errors
    /// As [`Predictions::evaluate`].
    pub fn new(
        predictions: &Predictions,
        encoders: &Encoders,
        source: EvaluationSource,
        settings: &Settings,
    ) -> Result<Self> {
        let Settings { group_by, bootstrap, n_confusions, n_mistakes, n_suspects } = settings;
        let evaluation = predictions.evaluate(encoders, group_by)?;
        let confusions = evaluation
            .confusion
            .each(|task, counts| top_confusions(counts, encoders[task].labels(), *n_confusions));
        Ok(Self {
            source,
            top_confusions: confusions,
            disparities: disparities(predictions, encoders, group_by, bootstrap)?,
            bootstrap: *bootstrap,
            calibration: None,
            mistakes: encoders.each(|task, _| mistakes(predictions, encoders, task, *n_mistakes)),
            label_errors: encoders.each(|task, _| label_errors(predictions, encoders, task, *n_suspects)),
            evaluation,
        })
    }

    /// Where a run keeps the record called `name`.
    pub fn path(run: &Path, name: &str) -> PathBuf {
        run.join("evaluation").join(format!("{name}.json"))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The file cannot be read, is no record, or its parts do not fit each other.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        let record: Self = serde_json::from_slice(&fs_err::read(path)?).map_err(|e| bad(e.to_string()))?;
        record.check().map_err(bad)?;
        Ok(record)
    }

    /// Whether whatever is indexed by task or class has the tasks and the size that the labels say.
    fn check(&self) -> Result<(), String> {
        let Evaluation { labels, display_order, tasks, confusion, reliability, groups, .. } =
            &self.evaluation;
        if labels.is_empty() {
            return Err("labels: expected at least one task, found none".to_owned());
        }
        let same = [
            ("display_order", display_order.same_tasks(labels)),
            ("tasks", tasks.same_tasks(labels)),
            ("confusion", confusion.same_tasks(labels)),
            ("reliability", reliability.same_tasks(labels)),
            ("top_confusions", self.top_confusions.same_tasks(labels)),
            ("mistakes", self.mistakes.same_tasks(labels)),
            ("label_errors", self.label_errors.same_tasks(labels)),
            ("groups", groups.iter().all(|group| group.tasks.same_tasks(labels))),
            ("disparities", self.disparities.iter().all(|found| found.tasks.same_tasks(labels))),
            ("calibration", self.calibration.iter().all(|found| found.tasks.same_tasks(labels))),
        ];
        if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
            let names: Vec<String> = labels.names().map(ToString::to_string).collect();
            return Err(format!("{what}: expected the tasks {}, found others", list(&names)));
        }
        for (task, labels) in labels.iter() {
            let n = labels.len();
            let fits = |what: &str, found: usize| {
                let message =
                    || format!("{what} of {task}: expected {n} classes, as there are labels, found {found}");
                if found == n { Ok(()) } else { Err(message()) }
            };
            fits("confusion", confusion[task].n_classes())?;
            let mut order = display_order[task].clone();
            order.sort_unstable();
            if !order.into_iter().eq(0..n) {
                return Err(format!("display_order of {task}: expected each of {n} classes once"));
            }
            for group in groups {
                let GroupTask { rates, confusion, .. } = &group.tasks[task];
                fits("confusion of a group", confusion.n_classes())?;
                for rates in [&rates.selection_rate, &rates.true_positive_rate, &rates.false_positive_rate] {
                    fits("rates of a group", rates.len())?;
                }
            }
        }
        Ok(())
    }

    /// Writes it, and the folder if need be.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let json = serde_json::to_string(self).expect("a record is JSON");
        Ok(write_atomic(path, json.as_bytes())?)
    }
}
