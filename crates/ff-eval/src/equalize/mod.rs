//! Decisions that are as often right and as often wrong in every group: a threshold a group, found after training
//! (Hardt, Price and Srebro, "Equality of opportunity in supervised learning", 2016).
//!
//! A task of two classes is a decision for or against one of them. The groups' ROC curves say which true- and
//! false-positive rates each can have; of the rates that all can have, those are taken that make the fewest mistakes.
//! Where no single threshold has them, lots choose between two, and in groups that could do better, lots spoil
//! decisions: equal odds are those of the group that is judged worst. On other samples than those that it was found on
//! the rates are equal within what samples vary.
//!
//! It asks for everybody's group at every decision, and treats equal scores differently by it.

mod curve;

use ff_core::files::sha256;
use ff_core::random::{Purpose, generator, unit};
use ff_core::text::either;
use ff_core::{Encoders, TaskName};
use serde::{Deserialize, Serialize};

use crate::groups::{Members, Relation};
use crate::{Error, Grouping, Predictions, Result};
use curve::{Hull, Mixture, best_of_both, best_true_positives};

/// What is to be equal in all groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// The true-positive rate: whoever is of the class is found equally often.
    Opportunity,
    /// True- and false-positive rate.
    Odds,
}

/// How the samples of every group are decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Equalizer {
    /// The task, of two classes.
    pub task: TaskName,
    /// The class that is decided for or against.
    pub class: String,
    /// What makes the groups.
    pub by: Grouping,
    /// What is equal in all of them.
    pub parity: Parity,
    /// A rule a group.
    pub rules: Vec<GroupRule>,
}

/// How the samples of one group are decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRule {
    /// The group.
    pub group: String,
    /// The samples of both kinds that it was found on.
    pub n: u64,
    /// The class is taken from this probability of it on; `None` for never. The second threshold is the lower one.
    pub thresholds: [Option<f64>; 2],
    /// Share of the samples that the second threshold decides.
    pub second: f64,
    /// Share of the samples that no threshold decides.
    pub by_lot: f64,
    /// Share of those that are given the class.
    pub lots: f64,
    /// The rate that is expected, that of the samples it was found on.
    pub true_positive_rate: f64,
    /// Likewise.
    pub false_positive_rate: f64,
}

/// What an [`Equalizer`] makes of predictions.
#[derive(Debug, Clone, PartialEq)]
pub struct Equalized {
    /// Decisions without probabilities in its task, everything else as it was.
    pub predictions: Predictions,
    /// Samples in none of its groups: they keep the prediction that they had.
    pub kept: usize,
}

impl Equalizer {
    /// Finds the rules that make the fewest mistakes on some samples, which should be none that were trained on.
    ///
    /// # Errors
    /// The task is not there, has other than two classes, no probabilities or no such class, or makes the groups itself;
    /// there are fewer than two groups, or one lacks samples of a class; `by` names no column.
    pub fn fit(
        predictions: &Predictions,
        encoders: &Encoders,
        task: &TaskName,
        class: &str,
        by: &Grouping,
        parity: Parity,
    ) -> Result<Self> {
        let positive = positive_class(predictions, encoders, task, class)?;
        if by.relation_to(task) == Relation::Same {
            return Err(Error::NoThresholds(format!(
                "expected groups by other columns than {task}, found {by}"
            )));
        }
        let members = Members::new(predictions, encoders, by)?;
        let mut samples = vec![Vec::new(); members.names.len()];
        for known in predictions.known(task) {
            if let Some(group) = members.group_of[known.sample] {
                samples[group].push((f64::from(known.row[positive as usize]), known.target == positive));
            }
        }
        let mut groups = Vec::new();
        for (name, samples) in
            members.names.into_iter().zip(samples).filter(|(_, samples)| !samples.is_empty())
        {
            let n = samples.len();
            let of_class = samples.iter().filter(|sample| sample.1).count();
            let hull = Hull::new(samples).ok_or_else(|| {
                let found = format!("{of_class} of {class} among {n}");
                Error::NoThresholds(format!("{by} {name}: expected samples of both classes, found {found}"))
            })?;
            groups.push((name, hull));
        }
        if groups.len() < 2 {
            let found = groups.len();
            return Err(Error::NoThresholds(format!("expected two groups by {by} or more, found {found}")));
        }
        let (names, hulls): (Vec<String>, Vec<Hull>) = groups.into_iter().unzip();
        let rules = names.into_iter().zip(&hulls);
        let rules = match parity {
            Parity::Opportunity => {
                let rate = best_true_positives(&hulls);
                rules.map(|(group, hull)| GroupRule::of(group, hull, hull.at_true_positives(rate))).collect()
            }
            Parity::Odds => {
                let (x, y) = best_of_both(&hulls);
                rules
                    .map(|(group, hull)| GroupRule::of(group, hull, hull.at_false_positives(x)).down_to(y))
                    .collect()
            }
        };
        Ok(Self { task: task.clone(), class: class.to_owned(), by: by.clone(), parity, rules })
    }

    /// Decides samples, which need no labels but those that make the groups. Lots are drawn from `seed` and the sample's
    /// file: one file is always decided alike.
    ///
    /// # Errors
    /// As [`Equalizer::fit`], as far as it is about tasks and columns.
    pub fn apply(&self, predictions: &Predictions, encoders: &Encoders, seed: u64) -> Result<Equalized> {
        let task = &self.task;
        let positive = positive_class(predictions, encoders, task, &self.class)?;
        let members = Members::new(predictions, encoders, &self.by)?;
        let rule = |group: &Option<usize>| {
            let name = &members.names[(*group)?];
            self.rules.iter().find(|rule| rule.group == *name)
        };
        let mut decided = predictions.clone();
        let mut kept = 0;
        let rows = decided.probabilities[task].chunks_exact_mut(2);
        for (((row, file), group), before) in
            rows.zip(&predictions.files).zip(&members.group_of).zip(predictions.predicted(task))
        {
            let class = match rule(group) {
                Some(rule) => {
                    let yes = lot(seed, file) < rule.chance(f64::from(row[positive as usize]));
                    if yes { positive } else { 1 - positive }
                }
                None => {
                    kept += 1;
                    before
                }
            };
            row.fill(0.0);
            row[class as usize] = 1.0;
        }
        decided.labels_only.push(task.clone());
        Ok(Equalized { predictions: decided, kept })
    }
}

impl GroupRule {
    fn of(group: String, hull: &Hull, mixture: Mixture) -> Self {
        let Mixture { thresholds, second, false_positives, true_positives } = mixture;
        Self {
            group,
            n: (hull.positives + hull.negatives) as u64,
            thresholds,
            second,
            by_lot: 0.0,
            lots: 0.0,
            true_positive_rate: true_positives,
            false_positive_rate: false_positives,
        }
    }

    /// With so many decisions by lot that the true-positive rate is this one, and the false-positive rate what it was.
    fn down_to(mut self, rate: f64) -> Self {
        let [above, x] = [self.true_positive_rate - rate, self.false_positive_rate];
        if above > 0.0 {
            self.by_lot = above / (self.true_positive_rate - x);
            self.lots = x;
            self.true_positive_rate = rate;
        }
        self
    }

    /// With which probability a sample with this probability of the class is decided to be of it.
    pub fn chance(&self, score: f64) -> f64 {
        let passes = |threshold: Option<f64>| f64::from(threshold.is_some_and(|least| score >= least));
        let [first, second] = self.thresholds.map(passes);
        let by_thresholds = first + (second - first) * self.second;
        by_thresholds + (self.lots - by_thresholds) * self.by_lot
    }
}

/// The id of a class of a task of two.
fn positive_class(
    predictions: &Predictions,
    encoders: &Encoders,
    task: &TaskName,
    class: &str,
) -> Result<u32> {
    let refuse = |message: String| Err(Error::NoThresholds(message));
    let Some(encoder) = encoders.get(task.as_str()) else {
        let known: Vec<String> = encoders.names().map(ToString::to_string).collect();
        return refuse(format!("expected one of the tasks {}, found {task}", either(&known)));
    };
    if encoder.n_classes() != 2 {
        return refuse(format!("expected a task of two classes, found {} of {task}", encoder.n_classes()));
    }
    if !predictions.has_probabilities(task) {
        return refuse(format!("expected probabilities of {task}, found labels alone"));
    }
    match encoder.encode(class) {
        Ok(id) => Ok(id),
        Err(_) => {
            refuse(format!("expected a class of {task}: {}, found {class:?}", either(encoder.labels())))
        }
    }
}

/// A number in [0, 1) that belongs to a file.
fn lot(seed: u64, file: &str) -> f64 {
    let name = u64::from_str_radix(&sha256(file.as_bytes())[..16], 16).expect("SHA-256 in hexadecimal");
    f64::from(unit(&mut generator(Purpose::Lots, seed, 0, name)))
}
