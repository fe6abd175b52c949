//! The training loop: batches in, steps, an evaluation an epoch, checkpoints out.
//!
//! A step depends on (parameters, optimiser state, seed, step, batch) and a batch on (seed, epoch, batch index), so a
//! run continued from a checkpoint repeats the uninterrupted one. It prints nothing: an
//! [`Observer`] may.

pub mod batch_size;
mod epoch;
mod observer;
mod resume;

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use ff_core::Encoders;
use ff_core::files::{link_dir, sha256};
use ff_data::Splits;

use epoch::{mean_loss, rate};
pub use observer::{Observer, RunStart};
pub use resume::Change;
use resume::Resumed;
pub(crate) use resume::{changes, with_absolute_paths};

use crate::config::Config;
use crate::feed::Feeder;
use crate::learner::{Learner, Length};
use crate::machine::Machine;
use crate::position::Position;
use crate::records::{EpochRecord, Seconds, TrainingResult};
use crate::run::checkpoint::Checkpoint;
use crate::run::journal::Journal;
use crate::run::{CheckpointName, DataRecord, InitRecord, Lock, RunDir};
use crate::setup;
use crate::weights::{self, Init};
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
    let trainer = Trainer::new(config, start)?;
    observer.started(&trainer.found());
    trainer.run(observer, stop)
}

/// Where checkpoints go, and what they hold beside the learner.
struct Store {
    run_dir: RunDir,
    _lock: Lock,
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
    fn save(&self, learner: &mut Learner, position: Position) -> Result<()> {
        if position == self.saved.get() {
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
    fn save_at_failure(&self, learner: &mut Learner, position: Position) {
        match self.save(learner, position) {
            Ok(()) => tracing::warn!("stopped at step {}; {}", position.step, self.run_dir.last_good()),
            Err(e) => tracing::warn!("no checkpoint of step {}: {e}", position.step),
        }
    }

    fn diverged(&self, step: u64, what: String) -> Error {
        Error::Diverged { step, what, last_good: self.run_dir.last_good() }
    }
}

struct Trainer {
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

impl Trainer {
    fn new(config: &Config, start: Start) -> Result<Self> {
        let config = &with_absolute_paths(config)?;
        // What can be refused at once is, before anything is read or made.
        let resumed = match &start {
            Start::Fresh => {
                config.run.dir.as_deref().map_or(Ok(()), RunDir::check_free)?;
                None
            }
            Start::Resume(checkpoint) => Some(Resumed::open(config, checkpoint)?),
        };
        let mut position = resumed.as_ref().map_or(Position::default(), |resumed| resumed.state.position);
        let splits = config.read_splits()?;
        splits.check_labels()?;
        let data = DataRecord::of(&splits);
        let Splits { train, val, encoders, .. } = splits;
        let train_split = sha256(&train.to_csv());
        let model = setup::build_model(config, &encoders)?;
        let train = setup::train_feeder(config, train, &encoders, &model)?;
        let val = setup::eval_feeder(config, val, &config.data.images, &encoders, &model)?;
        setup::check_files(config, &[&train, &val].map(|feeder| &**feeder.loader().dataset()))?;
        let length = Length::of(config, train.loader().n_batches());
        let mut learner = Learner::for_split(config, model, &encoders, train.loader(), &position)?;
        let machine = Machine::look().with_gpu(config.train.device)?;
        let resumed_at = resumed.is_some().then_some(position.step);
        let (init, changes, run_dir, lock) = match resumed {
            None => {
                let init = weights::initialise(&mut learner.model, &config.model.init)?;
                let init_record = InitRecord::of(&init, learner.model.parameters())?;
                learner.begin_average()?;
                let run_dir = RunDir::create(config.run.dir.as_deref(), "train")?;
                let lock = run_dir.lock()?;
                RunDir::check_free(run_dir.path())?; // somebody else may have been faster
                let first = run_dir.step_checkpoint(0);
                Checkpoint::write(&first, &mut learner, position, &encoders, &train_split)?;
                link_dir(&first, &run_dir.checkpoint(CheckpointName::Last))?;
                let named = init.to_string();
                run_dir.describe(config, &named, init_record.as_ref(), &machine, &encoders, &data)?;
                (Some(init), Vec::new(), run_dir, lock)
            }
            Some(resumed) => {
                resumed.check_data(config, &train_split, &encoders, &length)?;
                let Resumed { run_dir, lock, checkpoint, changes, .. } = resumed;
                checkpoint.restore(&mut learner)?;
                run_dir.go_on_from(&checkpoint, &mut position)?;
                run_dir.write_config(config)?;
                let changed: Vec<String> = changes.iter().map(ToString::to_string).collect();
                run_dir.describe_resumption(position.step, &changed, &machine, &data)?;
                (None, changes, run_dir, lock)
            }
        };
        let journal = Journal::after(position, &run_dir);
        let (resumed_at, saved) = (Cell::new(resumed_at), Cell::new(position));
        let keep = config.run.keep;
        Ok(Self {
            config: config.clone(),
            machine,
            train,
            val,
            learner,
            init,
            changes,
            store: Store { run_dir, _lock: lock, encoders, train_split, keep, resumed_at, saved },
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
        if !self.length.is_over(&self.position) {
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
                    self.store.save_at_failure(&mut self.learner, self.position);
                    return Err(why);
                }
            };
            let Some(evaluated) = evaluated else {
                interrupted = true;
                self.store.save(&mut self.learner, self.position)?;
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
