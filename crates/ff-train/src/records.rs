//! What a run tells while it runs, as data: lines of the run folder's metrics, and what an observer hears.
//!
//! Plain records; nothing here computes but sums and differences of seconds. JSON has no NaN and no infinity: they are
//! written as null, and null is read as NaN.

use std::path::PathBuf;

use ff_core::PerTask;
use ff_core::json::{null_as_nan, nulls_as_nan, some_nulls_as_nan};
use ff_eval::{ConfusionMatrix, TaskMetrics};
use serde::{Deserialize, Serialize};

/// A line of `metrics.jsonl`; its key `kind` says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A step is done.
    Step(StepRecord),
    /// An epoch is trained and evaluated.
    Epoch(Box<EpochRecord>),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The epoch it belongs to, from 1.
    pub epoch: u64,
    /// Which step, from 1.
    pub step: u64,
    /// What is minimised: the weighted sum of the tasks' losses. NaN where it is no number.
    #[serde(deserialize_with = "null_as_nan")]
    pub loss: f64,
    /// Loss a task, before its weight.
    #[serde(deserialize_with = "nulls_as_nan")]
    pub losses: PerTask<f64>,
    /// Learning rate, before the factors of layers and heads.
    #[serde(deserialize_with = "null_as_nan")]
    pub lr: f64,
    /// The gradient's l2 norm, before clipping.
    #[serde(deserialize_with = "null_as_nan")]
    pub grad_norm: f64,
    /// The tasks' weights, where they are learnt.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_nulls_as_nan")]
    pub weights: Option<PerTask<f64>>,
    /// Images in the step's batches.
    pub images: usize,
    /// Seconds that the step took, waiting for the loader included.
    pub seconds: f64,
}

/// One epoch, or the part of it that was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Which epoch, from 1.
    pub epoch: u64,
    /// Steps taken in the whole run.
    pub step: u64,
    /// Mean over the images of the epoch's steps; `None` where every step was skipped.
    pub train_loss: Option<f64>,
    /// Validation figures a task.
    pub val: PerTask<TaskMetrics>,
    /// The same figures of the weights' moving average, where the run keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<PerTask<TaskMetrics>>,
    /// What validation took for what, a task; of the average where there is one.
    pub confusion: PerTask<ConfusionMatrix>,
    /// Whether it is the best so far, by `[train] criterion`; the moving average's figures count where there is one.
    pub best: bool,
    /// Training images a second, evaluation not counted.
    pub images_per_s: f64,
    /// Where the time went.
    pub seconds: Seconds,
}

/// Seconds of the host, by what they were spent on. A GPU only gets its work in forward, backward and optimiser: what
/// the host then waits for it counts as the optimiser's, and the loader's part runs beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Waiting for batches.
    pub loader: f64,
    /// Forward passes, the copy of the batch to the device included.
    pub forward: f64,
    /// Backward passes.
    pub backward: f64,
    /// Optimiser steps.
    pub optimizer: f64,
    /// Validation.
    pub evaluation: f64,
}

impl Seconds {
    /// What training took, without evaluation.
    pub fn training(&self) -> f64 {
        self.loader + self.forward + self.backward + self.optimizer
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            loader: self.loader + other.loader,
            forward: self.forward + other.forward,
            backward: self.backward + other.backward,
            optimizer: self.optimizer + other.optimizer,
            evaluation: self.evaluation + other.evaluation,
        }
    }

    /// What was spent after `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            loader: self.loader - before.loader,
            forward: self.forward - before.forward,
            backward: self.backward - before.backward,
            optimizer: self.optimizer - before.optimizer,
            evaluation: self.evaluation - before.evaluation,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingResult {
    /// The run's folder.
    pub run_dir: PathBuf,
    /// Steps taken in the whole run.
    pub steps: u64,
    /// Epochs completed.
    pub epochs: u64,
    /// Training images a second in this session.
    pub images_per_s: f64,
    /// Mean loss of the last epoch's images; `None` when nothing was trained.
    pub train_loss: Option<f64>,
    /// The last evaluation; `None` when interrupted before one.
    pub val: Option<PerTask<TaskMetrics>>,
    /// The last evaluation of the moving average, where the run keeps one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<PerTask<TaskMetrics>>,
    /// Steps that changed nothing, because the loss or gradient was not finite.
    pub skipped_steps: u64,
    /// Whether `[train] patience` ended the run.
    pub stopped_early: bool,
    /// Where the weights came from: `random`, a file, or `resumed`.
    pub init: String,
    /// Where the time went in this session.
    pub seconds: Seconds,
    /// Whether the run was asked to stop; its checkpoint `last` is written.
    pub interrupted: bool,
}

impl EpochRecord {
    /// Names of the columns of [`EpochRecord::csv_row`]; the second is the step.
    pub fn csv_header(&self) -> String {
        let mut names = ["epoch", "step", "train_loss"].map(str::to_owned).to_vec();
        names.extend(self.val.names().map(|task| format!("{task}_accuracy")));
        names.extend(self.val.names().map(|task| format!("{task}_nll")));
        names.extend(["images_per_s", "training_seconds", "evaluation_seconds"].map(str::to_owned));
        names.join(",")
    }

    /// The epoch as a row of `metrics.csv`.
    pub fn csv_row(&self) -> String {
        let train_loss = self.train_loss.map_or(String::new(), |loss| loss.to_string());
        let mut fields = vec![self.epoch.to_string(), self.step.to_string(), train_loss];
        fields.extend(self.val.values().map(|m| m.accuracy.to_string()));
        fields.extend(self.val.values().map(|m| m.nll.to_string()));
        fields.extend(
            [self.images_per_s, self.seconds.training(), self.seconds.evaluation].map(|x| x.to_string()),
        );
        fields.join(",")
    }
}

#[cfg(test)]
mod tests {
    use ff_core::Schema;

    use super::*;

    fn per_task(values: [f64; 3]) -> PerTask<f64> {
        Schema::fairface().names().cloned().zip(values).collect()
    }

    /// JSON turns NaN to null, and a reader that wants a number refuses the file for good.
    #[test]
    fn figures_that_are_no_numbers_are_written_and_read_back() {
        let step = StepRecord {
            epoch: 1,
            step: 1,
            loss: f64::INFINITY,
            losses: per_task([f64::NAN, 1.0, f64::NEG_INFINITY]),
            lr: 0.1,
            grad_norm: f64::NAN,
            weights: Some(per_task([f64::INFINITY, 1.0, 1.0])),
            images: 4,
            seconds: 0.5,
        };
        let json = serde_json::to_string(&Record::Step(step)).unwrap();
        let Record::Step(read) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert!(read.loss.is_nan() && read.losses["age"].is_nan() && read.grad_norm.is_nan(), "{json}");
        let weights = read.weights.unwrap();
        assert_eq!((read.losses["gender"], read.lr, weights["gender"]), (1.0, 0.1, 1.0));
        assert!(weights["age"].is_nan());
    }

    /// As a version before wrote an epoch of which every step was skipped.
    #[test]
    fn an_epoch_without_a_loss_is_read_back() {
        let metrics = r#"{"accuracy":0.5,"balanced_accuracy":0.5,"macro_f1":null,"ece":0.1,"nll":null}"#;
        let confusion = "[[1,0],[1,0]]";
        let json = format!(
            r#"{{"kind":"epoch","epoch":1,"step":2,"train_loss":null,"val":{{"age":{metrics},"gender":{metrics},"race":{metrics}}},
            "confusion":{{"age":{confusion},"gender":{confusion},"race":{confusion}}},"best":true,"images_per_s":0.0,
            "seconds":{{"loader":1.0,"forward":1.0,"backward":1.0,"optimizer":1.0,"evaluation":1.0}}}}"#
        );
        let Record::Epoch(read) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert_eq!((read.train_loss, read.confusion["age"].get(1, 0)), (None, 1));
        assert!(
            read.val["age"].nll.is_nan() && read.csv_row().starts_with("1,2,,0.5,"),
            "{}",
            read.csv_row()
        );
        let header = "epoch,step,train_loss,age_accuracy,gender_accuracy,race_accuracy,age_nll,gender_nll,race_nll,\
                      images_per_s,training_seconds,evaluation_seconds";
        assert_eq!(read.csv_header(), header, "as versions before wrote it");
        let again = serde_json::to_value(Record::Epoch(read)).unwrap();
        assert!(again["train_loss"].is_null() && again["confusion"]["age"][1][0] == 1, "{again}");
    }
}
