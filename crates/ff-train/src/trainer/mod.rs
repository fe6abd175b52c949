//! The training loop: batches in, steps, an evaluation an epoch, checkpoints out.
//!
//! A step depends on (parameters, optimiser state, seed, step, batch) and a batch on (seed, epoch, batch index), so a
//! run continued from a checkpoint repeats the uninterrupted one. It prints nothing: an
//! [`Observer`] may.

mod epoch;
mod learner;
mod resume;

use std::sync::atomic::AtomicBool;

use ff_core::files::sha256;
use ff_data::{Encoders, Loader, Splits};
use ff_model::FaceModel;

use epoch::{mean_loss, rate};
pub use learner::{Learner, Pending, Place, Taken};
pub use resume::Change;

use crate::checkpoint::{Checkpoint, Position};
use crate::config::Config;
use crate::feed::Feeder;
use crate::journal::Journal;
use crate::losses::StepLosses;
use crate::machine::Machine;
use crate::optimizer::{Optimizer, Step};
use crate::records::{EpochRecord, Found, Observer, Outcome, Seconds};
use crate::report::Report;
use crate::run_dir::{Lock, RunDir, Which};
use crate::setup::{self, Init};
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
) -> Result<Outcome> {
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
}

/// Whether a checkpoint is that of the best epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Best {
    Yes,
    No,
}

impl Store {
    fn save(&self, learner: &mut Learner, position: Position, best: Best) -> Result<()> {
        let path = self.run_dir.step_checkpoint(position.step);
        Checkpoint::write(&path, learner, position, &self.encoders, &self.train_split)?;
        self.run_dir.publish(position.step, best == Best::Yes, self.keep)
    }

    /// Renews the report. A run does not die of a page that nobody may read.
    fn report(&self) {
        if let Err(e) = Report::read(&self.run_dir).and_then(|report| report.write()) {
            tracing::warn!("no report: {e}");
        }
    }

    fn last_good(&self) -> String {
        match Checkpoint::open(&self.run_dir.checkpoint(Which::Last)) {
            Ok(checkpoint) => format!("the last good checkpoint is {}", checkpoint.path().display()),
            Err(_) => "there is no checkpoint yet".to_owned(),
        }
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
    position: Position,
    seconds: Seconds,
    images: u64,
}

impl Trainer {
    fn new(config: &Config, start: Start) -> Result<Self> {
        let splits = config.data.read_splits()?;
        splits.check_labels()?;
        let Splits { train, val, encoders, .. } = splits;
        let train_split = sha256(&train.to_csv());
        let model = setup::build_model(config, &encoders)?;
        let train = setup::train_feeder(config, train, &encoders, &model)?;
        let val = setup::eval_feeder(config, val, &config.data.images, &encoders, &model)?;
        let mut learner = Learner::for_split(config, model, &encoders, train.loader())?;
        let machine = Machine::look().with_gpu(config.train.device)?;
        let (init, changes, run_dir, lock, position) = match start {
            Start::Fresh => {
                let init = setup::initialise(&mut learner.model, &config.model.init)?;
                learner.begin_average()?;
                let run_dir = RunDir::create(config.run.dir.as_deref(), "train")?;
                let lock = run_dir.lock()?;
                run_dir.describe(config, &init.to_string(), &machine, &encoders)?;
                (Some(init), Vec::new(), run_dir, lock, Position::default())
            }
            Start::Resume(name) => {
                let no_dir = || Error::Config {
                    origin: "run.dir".into(),
                    message: "expected the folder to resume".into(),
                };
                let run_dir = RunDir::open(config.run.dir.as_deref().ok_or_else(no_dir)?)?;
                let lock = run_dir.lock()?;
                let checkpoint = run_dir.checkpoint_to_resume(&name)?;
                let changes = resume::changes(&run_dir.config()?, config);
                let state = checkpoint.state()?;
                if (&state.train_split, &state.encoders) != (&train_split, &encoders) {
                    let message = format!(
                        "expected the training split that the run was started with, found another in {}",
                        config.data.splits.display()
                    );
                    return Err(Error::BadFile { path: checkpoint.path().to_owned(), message });
                }
                resume::check(&changes, &state.position)?;
                checkpoint.restore(&mut learner)?;
                if state.position.step < total_steps(config, train.loader()) {
                    run_dir.rewind(&state.position)?;
                }
                run_dir.write_config(config)?;
                (None, changes, run_dir, lock, state.position)
            }
        };
        let journal = Journal::open(&run_dir, position.step)?;
        Ok(Self {
            config: config.clone(),
            machine,
            train,
            val,
            learner,
            init,
            changes,
            store: Store { run_dir, _lock: lock, encoders, train_split, keep: config.run.keep },
            journal,
            position,
            seconds: Seconds::default(),
            images: 0,
        })
    }

    fn found(&self) -> Found<'_> {
        let model = &self.learner.model;
        Found {
            machine: &self.machine,
            config: &self.config,
            encoders: &self.store.encoders,
            rows: (self.train.loader().dataset().len(), self.val.loader().dataset().len()),
            init: self.init.as_ref(),
            changes: &self.changes,
            parameters: (model.parameters().layout().len(), model.trainable_parameters()),
            run_dir: &self.store.run_dir,
            position: self.position,
            steps_per_epoch: steps_per_epoch(&self.config, self.train.loader()),
            total_steps: self.total_steps(),
        }
    }

    fn total_steps(&self) -> u64 {
        total_steps(&self.config, self.train.loader())
    }

    fn run(mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let mut last: Option<EpochRecord> = None;
        let mut interrupted = false;
        while self.position.step < self.total_steps() && !self.out_of_patience() {
            let before = (self.seconds, self.images);
            interrupted = self.train_epoch(observer, stop)?.is_break();
            let evaluated = if interrupted { None } else { self.evaluate(observer, stop)? };
            let Some(evaluated) = evaluated else {
                interrupted = true;
                self.store.save(&mut self.learner, self.position, Best::No)?;
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
        Ok(Outcome {
            run_dir: self.store.run_dir.path().to_owned(),
            steps: self.position.step,
            epochs: self.position.epoch,
            images_per_s: rate(self.images, self.seconds.training()),
            train_loss: last.map(|r| r.train_loss).or_else(|| mean_loss(&self.position)),
            val,
            ema,
            skipped_steps: self.position.skipped,
            stopped_early: !interrupted && self.position.step < self.total_steps(),
            init: self.init.as_ref().map_or("resumed".to_owned(), Init::to_string),
            seconds: self.seconds,
            interrupted,
        })
    }
}

fn steps_per_epoch(config: &Config, train: &Loader) -> usize {
    train.n_batches().div_ceil(config.optimizer.accumulate)
}

fn total_steps(config: &Config, train: &Loader) -> u64 {
    let all = config.train.epochs * steps_per_epoch(config, train) as u64;
    config.train.max_steps.map_or(all, |max| max.min(all))
}

/// Moves the model's parameters along its gradient, without a schedule.
pub fn optimizer_step(model: &mut FaceModel, optimizer: &mut Optimizer) -> Result<()> {
    let (gradient, mode) = (model.gradient().clone(), model.backbone_mode());
    let measured = optimizer.measure(&gradient, 1.0, &StepLosses::default())?;
    optimizer.step(model.parameters_mut(), &gradient, &measured, Step { mode, ..Step::default() })?;
    optimizer.finish(measured)?;
    Ok(())
}
