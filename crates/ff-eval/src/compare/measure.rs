//! Every figure of both sides, with samples counted as often as a resample drew them.

use ff_core::{Encoders, PerTask, TaskName};

use super::McNemar;
use crate::disparity::Crossing;
use crate::groups::Members;
use crate::metrics::{ClassTotals, Kind, SampleOutcome, Sums};
use crate::{Figure, Grouping, NotGrouped, Predictions, Result, TaskMetrics};

/// What is needed to compute all rows anew for every resample.
pub(super) struct Measure<'a> {
    encoders: &'a Encoders,
    sides: [PerTask<Outcomes>; 2],
    /// All samples as one group first, then the groupings.
    parts: Vec<Part>,
}

/// What one side makes of the samples, in one task.
struct Outcomes {
    kind: Kind,
    /// `None` where the label is not known, (n,).
    samples: Vec<Option<SampleOutcome>>,
}

/// Samples in groups.
struct Part {
    /// `None` for all samples as one group.
    by: Option<Grouping>,
    members: Members,
    /// What gaps are computed from, a side.
    crossings: Option<[Crossing; 2]>,
}

/// One figure of both sides; `None` where it is not defined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub figure: Figure,
    pub task: Option<&'a TaskName>,
    pub by: Option<&'a Grouping>,
    pub group: Option<&'a String>,
    pub values: [Option<f64>; 2],
    pub n: u64,
}

impl Row<'_> {
    /// The second's less the first's.
    pub fn difference(&self) -> Option<f64> {
        let [a, b] = self.values;
        Some(b? - a?)
    }
}

impl<'a> Measure<'a> {
    pub fn new(sides: [&Predictions; 2], encoders: &'a Encoders, group_by: &[String]) -> Result<Self> {
        let outcomes = |predictions: &Predictions| {
            encoders.each(|task, encoder| {
                let mut samples = vec![None; predictions.len()];
                for known in predictions.known(task) {
                    let outcome = SampleOutcome::new(known.row, known.target, encoder.ranks());
                    samples[known.sample] = Some(outcome);
                }
                let kind = Kind {
                    ordered: encoder.ranks().is_some(),
                    with_probabilities: predictions.has_probabilities(task),
                };
                Outcomes { kind, samples }
            })
        };
        let n = sides[0].len();
        let whole = Members { names: vec![String::new()], group_of: vec![Some(0); n] };
        let mut parts = vec![Part { by: None, members: whole, crossings: None }];
        for by in Grouping::with_intersections(group_by) {
            let members = Members::new(sides[0], encoders, &by)?;
            let [a, b] = sides.map(|predictions| Crossing::new(predictions, encoders, &by));
            parts.push(Part { by: Some(by), members, crossings: Some([a?, b?]) });
        }
        Ok(Self { encoders, sides: sides.map(outcomes), parts })
    }

    /// Gives every row, always the same in the same order.
    pub fn each_row<'s>(&'s self, times: &[u32], mut give: impl FnMut(Row<'s>)) {
        for part in &self.parts {
            let by = part.by.as_ref();
            let metrics = self.encoders.each(|task, _| {
                [0, 1].map(|side| {
                    self.metrics(&self.sides[side][task], part, times, self.encoders[task].n_classes())
                })
            });
            if by.is_none() {
                let mean = |side: usize| {
                    let accuracies =
                        metrics.values().map(|sides| sides[side][0].1.as_ref().map(|m| m.accuracy));
                    let sum = accuracies.sum::<Option<f64>>()?;
                    Some(sum / metrics.len() as f64)
                };
                let n = metrics.values().map(|sides| sides[0][0].0).max().unwrap_or(0);
                give(Row {
                    figure: Figure::Accuracy,
                    task: None,
                    by,
                    group: None,
                    values: [0, 1].map(mean),
                    n,
                });
            }
            for (i, group) in part.members.names.iter().enumerate() {
                for task in self.encoders.names() {
                    let [(n, a), (_, b)] = metrics[task].each_ref().map(|groups| &groups[i]);
                    for figure in Figure::OF_SAMPLES {
                        let value = |metrics: &Option<TaskMetrics>| figure.of(metrics.as_ref()?);
                        let values = [value(a), value(b)];
                        let group = by.map(|_| group);
                        give(Row { figure, task: Some(task), by, group, values, n: *n });
                    }
                }
            }
            let Some([a, b]) = part
                .crossings
                .as_ref()
                .map(|crossings| crossings.each_ref().map(|crossing| crossing.measure_large(times)))
            else {
                continue;
            };
            for task in self.encoders.names() {
                let [a, b] = [&a, &b].map(|side| side.as_ref().map_or([None; 4], |side| side[task].gaps()));
                let n = metrics[task][0].iter().map(|(n, _)| n).sum();
                for (i, figure) in Figure::BETWEEN_GROUPS.into_iter().enumerate() {
                    give(Row { figure, task: Some(task), by, group: None, values: [a[i], b[i]], n });
                }
            }
        }
    }

    /// Samples and figures of every group, of one side in one task.
    fn metrics(
        &self,
        Outcomes { kind, samples }: &Outcomes,
        part: &Part,
        times: &[u32],
        n_classes: usize,
    ) -> Vec<(u64, Option<TaskMetrics>)> {
        let none = || vec![0; n_classes];
        let empty = ClassTotals { labelled: none(), predicted: none(), hits: none() };
        let mut groups = vec![(empty, Sums::default()); part.members.names.len()];
        for ((outcome, group), &times) in samples.iter().zip(&part.members.group_of).zip(times) {
            let (Some(outcome), Some(group)) = (outcome, group) else { continue };
            if times == 0 {
                continue;
            }
            let (classes, sums) = &mut groups[*group];
            let count = u64::from(times);
            classes.labelled[outcome.label] += count;
            classes.predicted[outcome.predicted] += count;
            classes.hits[outcome.label] += if outcome.label == outcome.predicted { count } else { 0 };
            sums.add(outcome, times);
        }
        let metrics = |(classes, sums): (ClassTotals, Sums)| {
            (classes.labelled.iter().sum(), TaskMetrics::of(&classes, &sums, *kind))
        };
        groups.into_iter().map(metrics).collect()
    }

    /// A test of every task, over all samples and in every group that has some.
    pub fn mcnemar(&self) -> Vec<McNemar> {
        let right = |outcome: &SampleOutcome| usize::from(outcome.label == outcome.predicted);
        let mut tests = Vec::new();
        for part in &self.parts {
            let counts = self.encoders.each(|task, _| {
                let mut counts = vec![[[0u64; 2]; 2]; part.members.names.len()];
                let [a, b] = self.sides.each_ref().map(|side| &side[task].samples);
                for ((a, b), group) in a.iter().zip(b).zip(&part.members.group_of) {
                    if let (Some(a), Some(b), Some(group)) = (a, b, group) {
                        counts[*group][right(a)][right(b)] += 1;
                    }
                }
                counts
            });
            for (group, name) in part.members.names.iter().enumerate() {
                for (task, counts) in counts.iter() {
                    if counts[group].as_flattened().iter().sum::<u64>() > 0 {
                        let name = part.by.as_ref().map(|_| name.clone());
                        tests.push(McNemar::new(task.clone(), part.by.clone(), name, counts[group]));
                    }
                }
            }
        }
        tests
    }

    /// Groupings that leave samples out.
    pub fn not_grouped(&self) -> Vec<NotGrouped> {
        let of_part = |part: &Part| {
            let n_unknown = part.members.n_unknown();
            Some(NotGrouped { by: part.by.clone()?, n_unknown }).filter(|_| n_unknown > 0)
        };
        self.parts.iter().filter_map(of_part).collect()
    }
}
