//! What a run tells while it runs: to an [`Observer`], and as lines of the run folder's metrics.
//!
//! Plain records; nothing here computes but sums and differences of seconds.

use std::path::PathBuf;

use ff_data::{Encoders, PerTask};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Position;
use crate::config::Config;
use crate::machine::Machine;
use crate::metrics::TaskMetrics;
use crate::run_dir::RunDir;
use crate::setup::Init;
use crate::trainer::Change;

/// Hears what a run does, while it does it.
pub trait Observer {
    /// Everything is ready; the first step comes next.
    fn started(&mut self, _found: &Found) {}
    /// A step is done.
    fn step(&mut self, _step: &StepRecord) {}
    /// A loss or gradient was not finite; nothing moved.
    fn skipped(&mut self, _step: &StepRecord, _files: &[String]) {}
    /// `done` of `total` validation samples are evaluated.
    fn evaluating(&mut self, _done: usize, _total: usize) {}
    /// An epoch, or the part of it that `max_steps` allows, is trained, evaluated and saved.
    fn epoch(&mut self, _epoch: &EpochRecord) {}
}

/// An observer that looks away.
impl Observer for () {}

/// What a run found and chose.
#[derive(Debug)]
pub struct Found<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The resolved configuration.
    pub config: &'a Config,
    /// Labels, hence classes.
    pub encoders: &'a Encoders,
    /// Rows of the training and the validation split.
    pub rows: (usize, usize),
    /// Where the initial weights came from; `None` when resuming.
    pub init: Option<&'a Init>,
    /// Settings that differ from those of the run that is resumed.
    pub changes: &'a [Change],
    /// Parameters, and those of them that learn.
    pub parameters: (usize, usize),
    /// The run's folder.
    pub run_dir: &'a RunDir,
    /// Where the run stands.
    pub position: Position,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// Steps that the whole run will have taken.
    pub total_steps: u64,
}

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
    /// What is minimised: the weighted sum of the tasks' losses.
    pub loss: f64,
    /// Loss a task, before its weight.
    pub losses: PerTask<f64>,
    /// Learning rate, before the factors of layers and heads.
    pub lr: f64,
    /// The gradient's l2 norm, before clipping.
    pub grad_norm: f64,
    /// The tasks' weights, where they are learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// Mean over the epoch's images.
    pub train_loss: f64,
    /// Validation figures a task.
    pub val: PerTask<TaskMetrics>,
    /// The same figures of the weights' moving average, where the run keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<PerTask<TaskMetrics>>,
    /// Validation counts a task, of the average where there is one: (classes, classes), row = label, column = prediction.
    pub confusion: PerTask<Vec<Vec<u64>>>,
    /// Whether it is the best so far, by `[train] criterion`; the moving average's figures count where there is one.
    pub best: bool,
    /// Training images a second, evaluation not counted.
    pub images_per_s: f64,
    /// Where the time went.
    pub seconds: Seconds,
}

/// Seconds of the host, by what they were spent on. A GPU only gets its work in forward, backward and optimiser: what the
/// host then waits for it counts as the optimiser's, and the loader's part runs beside it.
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
pub struct Outcome {
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
    pub const CSV_HEADER: &str = "epoch,step,train_loss,age_accuracy,gender_accuracy,race_accuracy,age_nll,\
                                  gender_nll,race_nll,images_per_s,training_seconds,evaluation_seconds";

    /// The epoch as a row of `metrics.csv`.
    pub fn csv_row(&self) -> String {
        let mut fields = vec![self.epoch.to_string(), self.step.to_string(), self.train_loss.to_string()];
        fields.extend(self.val.values().map(|m| m.accuracy.to_string()));
        fields.extend(self.val.values().map(|m| m.nll.to_string()));
        fields.extend(
            [self.images_per_s, self.seconds.training(), self.seconds.evaluation].map(|x| x.to_string()),
        );
        fields.join(",")
    }
}
