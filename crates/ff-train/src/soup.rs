//! Soups: the weights of several runs averaged into one model (Wortsman et al., "Model soups: averaging weights of
//! multiple fine-tuned models improves accuracy without increasing inference time", ICML 2022).
//!
//! The runs must have begun at the same weights, or their mean is no good model: that is not checked, and shows in the
//! accuracy. No batch has passed through averaged weights, so BatchNorm's statistics are found anew, on training
//! images of the first run as it augments them ([`estimate_statistics`]); those of a single run stay, and those that all
//! runs have, as where the backbone was frozen.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ff_model::host::{with_slice, with_slice_mut};
use ff_model::weights::{labels_metadata, serialise};
use serde::Serialize;

use crate::config::Config;
use crate::feed::Feeder;
use crate::infer::{Trained, TrainedSource, open_trained, predict};
use crate::learner::estimate_statistics;
use crate::ranks::Alone;
use crate::run::{CheckpointName, RunDir};
use crate::setup::{eval_feeder, train_feeder};
use crate::{Error, Result};

/// Which runs go into a soup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// All of them.
    Uniform,
    /// From the best run on those with which the soup is no worse, by the first run's validation split and criterion.
    Greedy,
}

/// A run that a soup was made of, or was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingredient {
    /// Its folder.
    pub run: PathBuf,
    /// How good it is alone by `[train] criterion`: more is better.
    pub score: f64,
    /// Whether it is in the soup.
    pub taken: bool,
}

/// A model of several runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Soup {
    /// How it was made.
    pub recipe: Recipe,
    /// The runs, the best first.
    pub ingredients: Vec<Ingredient>,
    /// How good it is, by the same criterion on the same faces. A greedy one was chosen by them, which flatters it.
    pub score: f64,
    /// The model's file, safetensors with labels.
    #[serde(skip)]
    pub file: Vec<u8>,
}

/// Makes a soup of the best checkpoints of these runs; `settle` may change where and how fast the first run's
/// configuration computes, and `each` hears of every model that was evaluated.
///
/// # Errors
/// Fewer than two runs; runs of other networks or labels than the first; data of the first that cannot be read.
pub fn soup(
    runs: &[PathBuf],
    recipe: Recipe,
    settle: impl FnOnce(Config) -> Result<Config>,
    mut each: impl FnMut(&str, f64),
) -> Result<Soup> {
    let [first, _, ..] = runs else {
        let message = format!("expected at least two runs, found {}", runs.len());
        return Err(Error::Config { origin: "runs".to_owned(), message });
    };
    let config = settle(RunDir::open(first)?.config()?)?;
    let mut kitchen = Kitchen::open(first, config)?;
    let mut all = Vec::new();
    for run in runs {
        let parts = kitchen.read(run)?;
        kitchen.put(&parts.values, Some(&parts.statistics))?;
        let score = kitchen.score()?;
        each(&run.display().to_string(), score);
        all.push((Ingredient { run: run.clone(), score, taken: recipe == Recipe::Uniform }, parts));
    }
    all.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
    let common = all[0].1.statistics.clone();
    let common = all.iter().all(|(_, parts)| parts.statistics == common).then_some(common);
    let common = common.as_deref();
    let mut score = match recipe {
        Recipe::Uniform => {
            let values: Vec<&[f32]> = all.iter().map(|(_, parts)| parts.values.as_slice()).collect();
            kitchen.put(&mean(&values), common)?;
            kitchen.score()?
        }
        Recipe::Greedy => {
            all[0].0.taken = true;
            all[0].0.score
        }
    };
    if recipe == Recipe::Greedy {
        for i in 1..all.len() {
            let with = all.iter().enumerate().filter(|(j, (ingredient, _))| ingredient.taken || *j == i);
            let values: Vec<&[f32]> = with.map(|(_, (_, parts))| parts.values.as_slice()).collect();
            kitchen.put(&mean(&values), common)?;
            let found = kitchen.score()?;
            each(&format!("soup of {}", values.len()), found);
            if found >= score {
                (all[i].0.taken, score) = (true, found);
            }
        }
        let taken: Vec<&Parts> = all.iter().filter(|(i, _)| i.taken).map(|(_, parts)| parts).collect();
        match &taken[..] {
            [alone] => kitchen.put(&alone.values, Some(&alone.statistics))?,
            taken => {
                let values: Vec<&[f32]> = taken.iter().map(|parts| parts.values.as_slice()).collect();
                kitchen.put(&mean(&values), common)?;
            }
        }
    } else {
        each("soup of all", score);
    }
    let trained = kitchen.trained;
    let file = serialise(trained.model.parameters(), labels_metadata(&trained.labels()))?;
    Ok(Soup { recipe, ingredients: all.into_iter().map(|(i, _)| i).collect(), score, file })
}

/// The mean of vectors, in f64.
///
/// # Panics
/// There are none, or of several lengths.
pub fn mean(all: &[&[f32]]) -> Vec<f32> {
    let n = all.len() as f64;
    let of_place = |i: usize| (all.iter().map(|values| f64::from(values[i])).sum::<f64>() / n) as f32;
    assert!(all.iter().all(|values| values.len() == all[0].len()), "expected vectors of one length");
    (0..all[0].len()).map(of_place).collect()
}

/// A run's weights (N,) and BatchNorm's statistics (M,).
struct Parts {
    values: Vec<f32>,
    statistics: Vec<f32>,
}

/// The first run's model and data, into which weights are put to be judged.
struct Kitchen {
    config: Config,
    trained: Trained,
    train: Feeder,
    val: Feeder,
}

impl Kitchen {
    fn open(run: &Path, config: Config) -> Result<Self> {
        let trained = open(run, &config)?;
        let splits = config.read_splits()?;
        let (encoders, model) = (&trained.encoders, &trained.model);
        let train = train_feeder(&config, splits.train, encoders, model)?;
        let val = eval_feeder(&config, splits.val, &config.data.images, encoders, model)?;
        Ok(Self { config, trained, train, val })
    }

    fn read(&self, run: &Path) -> Result<Parts> {
        let found = open(run, &self.config)?;
        let bad = |what: &str| {
            let message = format!("expected a run with the {what} of the first, found others");
            Err(Error::RunDir { path: run.to_owned(), message })
        };
        if found.encoders != self.trained.encoders {
            return bad("tasks and labels");
        }
        let parameters = found.model.parameters();
        if parameters.architecture() != self.trained.model.architecture() {
            return bad("network");
        }
        Ok(Parts {
            values: with_slice(parameters.values(), |values| Ok(values.to_vec()))?,
            statistics: with_slice(parameters.statistics(), |values| Ok(values.to_vec()))?,
        })
    }

    /// Fills the model; without statistics they are found anew.
    fn put(&mut self, values: &[f32], statistics: Option<&[f32]>) -> Result<()> {
        let model = &mut self.trained.model;
        model.parameters_mut().update(|to, to_statistics| {
            with_slice_mut(to, |to| {
                to.copy_from_slice(values);
                Ok(())
            })?;
            with_slice_mut(to_statistics, |to| {
                if let Some(statistics) = statistics {
                    to.copy_from_slice(statistics);
                }
                Ok(())
            })
        })?;
        match statistics {
            None => estimate_statistics(model, &mut self.train, &mut Alone, 0),
            Some(_) => Ok(()),
        }
    }

    fn score(&mut self) -> Result<f64> {
        let Trained { model, encoders, .. } = &mut self.trained;
        let predictions = predict(model, &mut self.val, |_| ControlFlow::Continue(()))?;
        let predictions = predictions.expect("nothing breaks it off");
        Ok(self.config.train.criterion.score(&predictions.evaluate(encoders, &[])?.tasks))
    }
}

fn open(run: &Path, config: &Config) -> Result<Trained> {
    let source = TrainedSource::Run { dir: run.to_owned(), which: CheckpointName::Best };
    open_trained(&source, &config.train.compute()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_one_of_places() {
        assert_eq!(mean(&[&[1.0, -2.0, 1e8], &[2.0, 2.0, 1.0], &[6.0, 3.0, 1.0]]), [3.0, 1.0, 33_333_334.0]);
    }
}
