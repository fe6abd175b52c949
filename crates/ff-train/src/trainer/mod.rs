//! The training loop: batches in, steps, an evaluation an epoch, checkpoints out.
//!
//! A step depends on (parameters, optimiser state, seed, step, batch) and a batch on (seed, epoch, batch index), so a
//! run continued from a checkpoint repeats the uninterrupted one. It prints nothing: an
//! [`Observer`] may.

pub mod batch_size;
mod epoch;
mod observer;
mod prepared;
mod resume;

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use ff_core::Encoders;
use ff_core::files::sha256;
use ff_model::host::with_slice;

use epoch::{mean_loss, rate};
pub use observer::{Observer, RunStart};
use prepared::{Folder, Prepared};
pub use resume::Change;
pub(crate) use resume::{changes, settings, with_absolute_paths};

use crate::config::Config;
use crate::feed::Feeder;
use crate::learner::{Learner, Length};
use crate::machine::Machine;
use crate::position::Position;
use crate::ranks::{Alone, Ranks, check_alike};
use crate::records::{EpochRecord, Seconds, TrainingResult};
use crate::run::checkpoint::Checkpoint;
use crate::run::journal::Journal;
use crate::run::{Lock, RunDir};
use crate::weights::Init;
use crate::{Error, Result};

/// Whether a run begins or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A new run in a new folder.
    Fresh,
    /// From a checkpoint of the folder in `[run] dir`: `last`, `best` or `step-N`.
    Resume(String),
}

/// Trains as `config` says, until done or until `stop` is set; a stop ends the step and writes the checkpoint.
///
/// # Errors
/// Data, weights or run folder that cannot be used, before step 1; [`Error::NonFinite`] and broken images, after.
pub fn train(
    config: &Config,
    start: Start,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<TrainingResult> {
    train_on_ranks(&mut Alone, config, start, observer, stop)
}

/// As [`train`], shared by ranks, each of which calls this with the same settings. The first one alone writes, and is
/// the one whose `observer` hears of the run. The result is the same everywhere, and the same as of one process where a
/// rank's part of a step's batches is a power of two. Whichever is asked to stop, all do.
///
/// # Errors
/// Also: ranks that do not divide `optimizer.accumulate`, or another device than the CPU, where there are several;
/// [`Error::RanksDiffer`]; [`Error::OnRank`]; [`Error::RankLost`].
pub fn train_on_ranks(
    ranks: &mut dyn Ranks,
    config: &Config,
    start: Start,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<TrainingResult> {
    let trainer = Trainer::new(ranks, config, start)?;
    if trainer.ranks.rank() > 0 {
        return trainer.run(&mut (), stop);
    }
    observer.started(&trainer.found());
    trainer.run(observer, stop)
}

/// Where checkpoints go, and what they hold beside the learner.
struct Store {
    run_dir: RunDir,
    /// Who has it writes.
    lock: Option<Lock>,
    encoders: Encoders,
    /// SHA-256 of the training split.
    train_split: String,
    /// How many checkpoints are kept.
    keep: usize,
    /// The step at which this session took the run on, until its first checkpoint: what there is of later steps is then
    /// of a future that was left.
    resumed_at: Cell<Option<u64>>,
    /// The position of the newest checkpoint.
    saved: Cell<Position>,
}

impl Store {
    fn writes(&self) -> bool {
        self.lock.is_some()
    }

    fn save(&self, ranks: &mut dyn Ranks, learner: &mut Learner, position: Position) -> Result<()> {
        if position == self.saved.get() {
            return Ok(());
        }
        if ranks.size() > 1 {
            check_alike(ranks, &[("its parameters".to_owned(), parameters_sha256(learner)?)])?;
        }
        if !self.writes() {
            self.saved.set(position);
            return Ok(());
        }
        let path = self.run_dir.step_checkpoint(position.step);
        let written = Checkpoint::write(&path, learner, position, &self.encoders, &self.train_split);
        written.map_err(|e| match e {
            Error::NonFiniteWeights { tensor, .. } => {
                self.diverged(position.step, format!("{tensor} has values that are not finite"))
            }
            other => other,
        })?;
        self.run_dir.publish(&position, self.keep, self.resumed_at.take())?;
        self.saved.set(position);
        Ok(())
    }

    /// Keeps what was trained before the run ends for a reason that is not the weights': an image that broke, say.
    fn save_at_failure(&self, ranks: &mut dyn Ranks, learner: &mut Learner, position: Position) {
        match self.save(ranks, learner, position) {
            Ok(()) if !self.writes() => {}
            Ok(()) => tracing::warn!("stopped at step {}; {}", position.step, self.run_dir.last_good()),
            Err(e) => tracing::warn!("no checkpoint of step {}: {e}", position.step),
        }
    }

    fn diverged(&self, step: u64, what: String) -> Error {
        Error::Diverged { step, what, last_good: self.run_dir.last_good() }
    }
}

/// SHA-256 of parameters and statistics.
fn parameters_sha256(learner: &Learner) -> Result<String> {
    let parameters = learner.model.parameters();
    let bytes = |tensor: &Tensor| {
        let tensor = tensor.to_device(&Device::Cpu)?;
        with_slice(&tensor, |values| Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()))
    };
    let all: [Vec<u8>; 2] = [bytes(parameters.values())?, bytes(parameters.statistics())?];
    Ok(sha256(&all.concat()))
}

struct Trainer<'r> {
    ranks: &'r mut dyn Ranks,
    config: Config,
    machine: Machine,
    train: Feeder,
    val: Feeder,
    learner: Learner,
    init: Option<Init>,
    changes: Vec<Change>,
    store: Store,
    journal: Journal,
    length: Length,
    position: Position,
    seconds: Seconds,
    images: u64,
}

impl<'r> Trainer<'r> {
    fn new(ranks: &'r mut dyn Ranks, config: &Config, start: Start) -> Result<Self> {
        let config = &with_absolute_paths(config)?;
        let prepared = Prepared::new(ranks, config, &start)?;
        let Prepared { train, val, learner, folder, encoders, train_split, length, machine, position } =
            prepared;
        let Folder { run_dir, lock, init, changes } = folder;
        let resumed_at = Cell::new(matches!(start, Start::Resume(_)).then_some(position.step));
        let (journal, saved, keep) =
            (Journal::after(position, &run_dir), Cell::new(position), config.run.keep);
        Ok(Self {
            ranks,
            config: config.clone(),
            machine,
            train,
            val,
            learner,
            init,
            changes,
            store: Store { run_dir, lock, encoders, train_split, keep, resumed_at, saved },
            journal,
            length,
            position,
            seconds: Seconds::default(),
            images: 0,
        })
    }

    fn found(&self) -> RunStart<'_> {
        let model = &self.learner.model;
        RunStart {
            machine: &self.machine,
            config: &self.config,
            encoders: &self.store.encoders,
            rows: (self.train.loader().dataset().len(), self.val.loader().dataset().len()),
            init: self.init.as_ref(),
            changes: &self.changes,
            parameters: (model.parameters().layout().len(), model.trainable_parameters()),
            run_dir: &self.store.run_dir,
            position: self.position,
            steps_per_epoch: self.length.steps_per_epoch(),
            total_steps: self.position.step + self.length.steps_left(&self.position),
        }
    }

    fn say_if_nothing_is_left(&self) {
        if !self.length.is_over(&self.position) || !self.store.writes() {
            return;
        }
        let why = match self.length.reached(&self.position) {
            Some(limit) => limit.to_string(),
            None => format!("train.patience is {}", self.config.train.patience.unwrap_or(0)),
        };
        tracing::warn!("nothing is left to train: {why}");
    }

    fn run(mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<TrainingResult> {
        let mut last: Option<EpochRecord> = None;
        let mut interrupted = false;
        self.say_if_nothing_is_left();
        while !self.length.is_over(&self.position) {
            let before = (self.seconds, self.images);
            interrupted = self.train_epoch(observer, stop)?.is_break();
            let evaluated = if interrupted { Ok(None) } else { self.evaluate(observer, stop) };
            let evaluated = match evaluated {
                Ok(evaluated) => evaluated,
                Err(why @ Error::NonFiniteOutput { .. }) => {
                    self.pass_over(&why)?;
                    continue;
                }
                Err(why) => {
                    self.store.save_at_failure(self.ranks, &mut self.learner, self.position);
                    return Err(why);
                }
            };
            let Some(evaluated) = evaluated else {
                interrupted = true;
                self.store.save(self.ranks, &mut self.learner, self.position)?;
                break;
            };
            let record = self.finish_epoch(evaluated, before)?;
            observer.epoch(&record);
            last = Some(record);
        }
        for feeder in [&self.train, &self.val] {
            for reason in feeder.loader().skipped().values() {
                tracing::warn!("skipped {reason}");
            }
        }
        let (val, ema) = last.as_ref().map_or((None, None), |r| (Some(r.val.clone()), r.ema.clone()));
        Ok(TrainingResult {
            run_dir: self.store.run_dir.path().to_owned(),
            steps: self.position.step,
            epochs: self.position.epoch,
            images_per_s: rate(self.images, self.seconds.training()),
            train_loss: last.and_then(|r| r.train_loss).or_else(|| mean_loss(&self.position)),
            val,
            ema,
            skipped_steps: self.position.skipped,
            stopped_early: !interrupted && self.length.steps_left(&self.position) > 0,
            init: self.init.as_ref().map_or("resumed".to_owned(), Init::to_string),
            seconds: self.seconds,
            interrupted,
        })
    }
}
