//! The training loop: batches in, steps, an evaluation an epoch, checkpoints out.
//!
//! A step depends on (parameters, optimiser state, seed, step, batch) and a batch on (seed, epoch, batch index), so a
//! run continued from a checkpoint repeats the uninterrupted one. It prints nothing: an
//! [`Observer`] may.

mod learner;
mod resume;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ff_data::{Encoders, Loader, PerTask, Splits};
use ff_model::{BackboneMode, FaceModel};

pub use learner::{Learner, Place, Taken};
pub use resume::Change;

use crate::checkpoint::{Checkpoint, Position};
use crate::config::{Config, OnNonFinite};
use crate::evaluation::{Evaluation, predict};
use crate::files::sha256;
use crate::journal::Journal;
use crate::losses::Objective;
use crate::machine::Machine;
use crate::optimizer::{Optimizer, Step, gradient_norm};
use crate::records::{EpochRecord, Found, Observer, Outcome, Seconds, StepRecord};
use crate::report::Report;
use crate::run_dir::{Lock, RunDir, Which};
use crate::schedule::Schedule;
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

/// With `on_non_finite = "skip"`, so many skipped steps in a row stop the run.
const MOST_SKIPPED_IN_A_ROW: u64 = 10;

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
    train_loader: Loader,
    val_loader: Loader,
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
        let Splits { train, val, encoders, .. } = Splits::read(&config.data.splits)?;
        let train_split = sha256(&train.to_csv());
        let train_loader = setup::train_loader(config, train, &encoders)?;
        let val_loader = setup::eval_loader(config, val, &config.data.images, &encoders)?;
        let model = setup::build_model(config, &encoders)?;
        let mut learner = learner(config, model, &encoders, &train_loader)?;
        let machine = Machine::look();
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
                if state.position.step < total_steps(config, &train_loader) {
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
            train_loader,
            val_loader,
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
            rows: (self.train_loader.dataset().len(), self.val_loader.dataset().len()),
            init: self.init.as_ref(),
            changes: &self.changes,
            parameters: (model.parameters().layout().len(), model.trainable_parameters()),
            run_dir: &self.store.run_dir,
            position: self.position,
            steps_per_epoch: steps_per_epoch(&self.config, &self.train_loader),
            total_steps: self.total_steps(),
        }
    }

    fn total_steps(&self) -> u64 {
        total_steps(&self.config, &self.train_loader)
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
        for loader in [&self.train_loader, &self.val_loader] {
            for reason in loader.skipped().values() {
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

    fn out_of_patience(&self) -> bool {
        self.config.train.patience.is_some_and(|patience| self.position.epochs_since_best >= patience)
    }

    /// The rest of the current epoch, as far as `max_steps` allows. Breaks when asked to stop.
    fn train_epoch(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<ControlFlow<()>> {
        let total_steps = self.total_steps();
        let epoch = self.position.epoch;
        let model = &self.config.model;
        let frozen = model.freeze_backbone || epoch < model.freeze_epochs;
        let mode = if frozen { BackboneMode::Frozen } else { BackboneMode::Trainable };
        self.learner.model.set_backbone_mode(mode);
        let Self { config, train_loader, learner, store, journal, position, seconds, images, .. } = self;
        let batches_before = epoch * train_loader.n_batches() as u64;
        let mut batches = train_loader.epoch(epoch, position.batch);
        while position.step < total_steps {
            if stop.load(Ordering::Relaxed) {
                return Ok(ControlFlow::Break(()));
            }
            let place = Place {
                epoch: epoch + 1,
                step: position.step + 1,
                batches_before: batches_before + position.batch as u64,
            };
            let Some(taken) = learner.step(&mut batches, place, seconds)? else { break };
            position.step += 1;
            position.batch += taken.batches;
            if let Some(files) = taken.broken {
                position.skipped += 1;
                position.skipped_in_a_row += 1;
                let StepRecord { step, loss, grad_norm, .. } = taken.record;
                let give_up = position.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW;
                if config.train.on_non_finite == OnNonFinite::Stop || give_up {
                    return Err(Error::NonFinite {
                        step,
                        loss,
                        grad_norm,
                        last_good: store.last_good(),
                        files,
                    });
                }
                observer.skipped(&taken.record, &files);
                continue;
            }
            let record = taken.record;
            *images += record.images as u64;
            position.skipped_in_a_row = 0;
            position.images += record.images as u64;
            position.loss_sum += record.loss * record.images as f64;
            journal.step(&record)?;
            observer.step(&record);
            if config.run.checkpoint_steps.is_some_and(|every| position.step.is_multiple_of(every)) {
                store.save(learner, *position, Best::No)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Validation of the weights, and of their average where there is one; `None` when asked to stop.
    fn evaluate(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Option<Evaluated>> {
        let started = Instant::now();
        let Some(raw) = self.evaluate_once(observer, stop)? else { return Ok(None) };
        let mut ema = None;
        if self.learner.average.is_some() {
            self.learner.swap_average()?;
            let average = self.evaluate_once(observer, stop);
            self.learner.swap_average()?;
            let Some(average) = average? else { return Ok(None) };
            ema = Some(average);
        }
        self.seconds.evaluation += started.elapsed().as_secs_f64();
        Ok(Some(Evaluated { raw, ema }))
    }

    fn evaluate_once(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>> {
        let total = self.val_loader.dataset().len();
        let predictions = predict(&mut self.learner.model, &mut self.val_loader, |done| {
            observer.evaluating(done, total);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(predictions.map(|p| p.evaluate(&self.store.encoders, &[])))
    }

    /// Records and saves an epoch that is trained and evaluated.
    fn finish_epoch(&mut self, evaluated: Evaluated, before: (Seconds, u64)) -> Result<EpochRecord> {
        let Evaluated { raw, ema } = evaluated;
        let deciding = ema.as_ref().unwrap_or(&raw);
        let score = self.config.train.criterion.score(&deciding.tasks);
        let best = if self.position.best.is_none_or(|b| score > b) { Best::Yes } else { Best::No };
        let (seconds_before, images_before) = before;
        let seconds = self.seconds.since(&seconds_before);
        let record = EpochRecord {
            epoch: self.position.epoch + 1,
            step: self.position.step,
            train_loss: mean_loss(&self.position).unwrap_or(f64::NAN),
            confusion: deciding.confusion.clone(),
            val: raw.tasks,
            ema: ema.map(|average| average.tasks),
            best: best == Best::Yes,
            images_per_s: rate(self.images - images_before, seconds.training()),
            seconds,
        };
        match best {
            Best::Yes => (self.position.best, self.position.epochs_since_best) = (Some(score), 0),
            Best::No => self.position.epochs_since_best += 1,
        }
        if self.position.batch == self.train_loader.n_batches() {
            let next = Position {
                epoch: self.position.epoch + 1,
                batch: 0,
                images: 0,
                loss_sum: 0.0,
                ..self.position
            };
            self.position = next;
        }
        self.journal.epoch(&record)?;
        self.store.save(&mut self.learner, self.position, best)?;
        self.store.report();
        Ok(record)
    }
}

/// The figures of an epoch's end.
struct Evaluated {
    raw: Evaluation,
    /// Of the weights' average.
    ema: Option<Evaluation>,
}

/// The learner that a configuration asks for, for this training split.
fn learner(config: &Config, model: FaceModel, encoders: &Encoders, train: &Loader) -> Result<Learner> {
    let targets = train.dataset().targets();
    let counts = PerTask::from_fn(|task| {
        let mut counts = vec![0; encoders[task].n_classes()];
        targets[task].iter().for_each(|&id| counts[id as usize] += 1);
        counts
    });
    let objective = Objective::new(&config.loss, encoders, &counts, model.device())?;
    let steps = steps_per_epoch(config, train);
    let schedule = Schedule::new(config.schedule.clone(), steps as u64, total_steps(config, train));
    Learner::new(config, model, objective, schedule)
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
    let grad_scale = optimizer.clip(gradient_norm(&gradient)?);
    optimizer.step(model.parameters_mut(), &gradient, Step { mode, grad_scale, ..Step::default() })
}

fn mean_loss(position: &Position) -> Option<f64> {
    (position.images > 0).then(|| position.loss_sum / position.images as f64)
}

fn rate(images: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
}
