//! The card's figures by group as data, for those who show them elsewhere.

use ff_core::PerTask;
use ff_eval::Interval;
use serde::Serialize;

use super::ModelCard;
use super::figures::{heading, rank, source};
use crate::evaluation::NamedEvaluation;
use crate::run::RunReport;

/// How often a checkpoint is right by group, from one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupFigures {
    /// The record, by its place in the run's folder.
    pub record: String,
    /// Which faces were judged, in words.
    pub faces: String,
    /// Attribute after attribute.
    pub groupings: Vec<GroupingFigures>,
}

/// The groups of one attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupingFigures {
    /// The attribute.
    pub by: String,
    /// Its groups, in their order.
    pub groups: Vec<GroupRow>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupRow {
    /// The label that makes it.
    pub group: String,
    /// Faces in it.
    pub n: u64,
    /// Whether there are fewer than [`ff_eval::SMALL_GROUP`].
    pub small: bool,
    /// Figures a task; `None` where the group has no label of it.
    pub tasks: PerTask<Option<Accuracy>>,
}

/// How often a task's answers are right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// The share, 0 to 1.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson).
    pub interval: Interval,
}

impl GroupFigures {
    /// The figures of the checkpoint of `step`, of some tasks; `None` where no evaluation of it has groups.
    ///
    /// Of several evaluations the one that says most about other faces: of the test split before the validation split,
    /// with the fewest options that are not the usual ones.
    pub fn of_checkpoint(report: &RunReport, step: Option<u64>, tasks: &[String]) -> Option<Self> {
        let card = ModelCard { report, step, file: None };
        let split = |evaluation: &NamedEvaluation| card.split(&evaluation.record.source.csv);
        let with_groups =
            card.evaluations().filter(|evaluation| evaluation.single_groupings().next().is_some());
        let evaluation =
            with_groups.min_by_key(|found| (rank(split(found)), found.name.len(), &found.name))?;
        let csv = evaluation.record.source.csv.file_name().unwrap_or_default().to_string_lossy();
        let groupings = evaluation.single_groupings().map(|groups| GroupingFigures {
            by: groups[0].by.to_string(),
            groups: groups
                .iter()
                .map(|group| GroupRow {
                    group: group.group.clone(),
                    n: group.n,
                    small: group.small,
                    tasks: group
                        .tasks
                        .iter()
                        .filter(|(name, _)| tasks.iter().any(|task| task == name.as_str()))
                        .map(|(name, figures)| {
                            let known = figures.metrics.as_ref().zip(figures.accuracy_interval);
                            let accuracy = known
                                .map(|(metrics, interval)| Accuracy { accuracy: metrics.accuracy, interval });
                            (name.clone(), accuracy)
                        })
                        .collect(),
                })
                .collect(),
        });
        Some(Self {
            record: format!("evaluation/{}.json", evaluation.name),
            faces: format!("{}: {}", heading(split(evaluation), &csv), source(&evaluation.record, &csv)),
            groupings: groupings.collect(),
        })
    }
}
