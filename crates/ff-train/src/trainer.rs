//! The training loop: batches in, steps, an evaluation an epoch, checkpoints out.
//!
//! A step depends on (parameters, optimiser state, seed, step, batch) and a batch on (seed, epoch, batch index), so a
//! run continued from a checkpoint repeats the uninterrupted one. It prints nothing: an
//! [`Observer`] may.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ff_data::{Batch, Encoders, Loader, PerTask, Splits, Task};
use ff_model::{Dropout, FaceModel};

use crate::batch;
use crate::checkpoint::{Checkpoint, Position, State};
use crate::config::Config;
use crate::evaluation::{Evaluation, predict};
use crate::losses::multi_task;
use crate::machine::Machine;
use crate::optimizer::Optimizer;
use crate::records::{EpochRecord, Found, Observer, Outcome, Record, Seconds, StepRecord};
use crate::run_dir::{RunDir, Which};
use crate::setup::{self, Init};
use crate::{Error, Result};

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A new run in a new folder.
    Fresh,
    /// From the `last` checkpoint of the folder in `[run] dir`.
    Resume,
}

/// Trains as `config` says, until done or until `stop` is set; a stop ends the step and writes the checkpoint.
///
/// # Errors
/// Data, weights or run folder that cannot be used, before step 1; [`Error::NonFiniteLoss`] and broken images, after.
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

struct Trainer {
    config: Config,
    machine: Machine,
    encoders: Encoders,
    train_loader: Loader,
    val_loader: Loader,
    model: FaceModel,
    optimizer: Optimizer,
    init: Option<Init>,
    run_dir: RunDir,
    position: Position,
    seconds: Seconds,
    images: u64,
}

impl Trainer {
    fn new(config: &Config, start: Start) -> Result<Self> {
        let Splits { train, val, encoders, .. } = Splits::read(&config.data.splits)?;
        let train_loader = setup::train_loader(config, train, &encoders)?;
        let val_loader = setup::eval_loader(config, val, &config.data.images, &encoders)?;
        let mut model = setup::build_model(config, &encoders)?;
        let mut optimizer = Optimizer::new(config.optimizer.clone(), model.parameters())?;
        let machine = Machine::look();
        let (init, run_dir, position) = match start {
            Start::Fresh => {
                let init = setup::initialise(&mut model, &config.model.init)?;
                let run_dir = RunDir::create(config.run.dir.as_deref(), "train")?;
                run_dir.describe(config, &init.to_string(), &machine, &encoders)?;
                (Some(init), run_dir, Position::default())
            }
            Start::Resume => {
                let no_dir = || Error::Config {
                    origin: "run.dir".into(),
                    message: "expected the folder to resume".into(),
                };
                let run_dir = RunDir::open(config.run.dir.as_deref().ok_or_else(no_dir)?)?;
                let checkpoint = Checkpoint::open(&run_dir.checkpoint(Which::Last))?;
                let state = checkpoint.state()?;
                if state.encoders != encoders {
                    let message = format!("its labels are not those of {}", config.data.splits.display());
                    return Err(Error::BadFile { path: checkpoint.path().to_owned(), message });
                }
                checkpoint.load_model(&mut model)?;
                checkpoint.load_optimizer(&mut optimizer, state.position.step)?;
                run_dir.rewind(state.position.step)?;
                (None, run_dir, state.position)
            }
        };
        let (config, seconds, images) = (config.clone(), Seconds::default(), 0);
        Ok(Self {
            config,
            machine,
            encoders,
            train_loader,
            val_loader,
            model,
            optimizer,
            init,
            run_dir,
            position,
            seconds,
            images,
        })
    }

    fn found(&self) -> Found<'_> {
        Found {
            machine: &self.machine,
            config: &self.config,
            encoders: &self.encoders,
            rows: (self.train_loader.dataset().len(), self.val_loader.dataset().len()),
            init: self.init.as_ref(),
            parameters: (self.model.parameters().layout().len(), self.model.trainable_parameters()),
            run_dir: &self.run_dir,
            position: self.position,
            steps_per_epoch: self.train_loader.n_batches(),
            total_steps: self.total_steps(),
        }
    }

    fn total_steps(&self) -> u64 {
        let all = self.config.train.epochs * self.train_loader.n_batches() as u64;
        self.config.train.max_steps.map_or(all, |max| max.min(all))
    }

    fn run(mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let mut last: Option<EpochRecord> = None;
        let mut interrupted = false;
        while self.position.step < self.total_steps() {
            let before = (self.seconds, self.images);
            interrupted = self.train_epoch(observer, stop)?.is_break();
            let evaluation = if interrupted { None } else { self.evaluate(observer, stop)? };
            let Some(evaluation) = evaluation else {
                interrupted = true;
                self.save(Which::Last)?;
                break;
            };
            let record = self.finish_epoch(&evaluation, before)?;
            observer.epoch(&record);
            last = Some(record);
        }
        for loader in [&self.train_loader, &self.val_loader] {
            for reason in loader.skipped().values() {
                tracing::warn!("skipped {reason}");
            }
        }
        Ok(Outcome {
            run_dir: self.run_dir.path().to_owned(),
            steps: self.position.step,
            epochs: self.position.epoch,
            images_per_s: rate(self.images, self.seconds.training()),
            train_loss: last.as_ref().map(|r| r.train_loss).or_else(|| mean_loss(&self.position)),
            val: last.map(|r| r.val),
            init: self.init.as_ref().map_or("resumed".to_owned(), Init::to_string),
            seconds: self.seconds,
            interrupted,
        })
    }

    /// The rest of the current epoch, as far as `max_steps` allows. Breaks when asked to stop.
    fn train_epoch(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<ControlFlow<()>> {
        let total_steps = self.total_steps();
        let Position { epoch, batch: first_batch, .. } = self.position;
        let mut batches = self.train_loader.epoch(epoch, first_batch);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(ControlFlow::Break(()));
            }
            if self.position.step >= total_steps {
                return Ok(ControlFlow::Continue(()));
            }
            let started = Instant::now();
            let Some(batch) = batches.next() else { return Ok(ControlFlow::Continue(())) };
            let batch = batch?;
            self.seconds.loader += started.elapsed().as_secs_f64();
            let step = Step { config: &self.config, position: &self.position, seconds: &mut self.seconds };
            let mut record = step.run(&batch, &mut self.model, &mut self.optimizer)?;
            record.seconds = started.elapsed().as_secs_f64();
            let n = batch.len() as u64;
            self.images += n;
            self.position.step += 1;
            self.position.batch += 1;
            self.position.images += n;
            self.position.loss_sum += record.loss * n as f64;
            self.run_dir.record(&Record::Step(record.clone()))?;
            observer.step(&record);
        }
    }

    /// Validation; `None` when asked to stop.
    fn evaluate(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Option<Evaluation>> {
        let started = Instant::now();
        let total = self.val_loader.dataset().len();
        let predictions = predict(&mut self.model, &mut self.val_loader, |done| {
            observer.evaluating(done, total);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.seconds.evaluation += started.elapsed().as_secs_f64();
        Ok(predictions.map(|p| p.evaluate(&self.encoders, &[])))
    }

    /// Records and saves an epoch that is trained and evaluated.
    fn finish_epoch(&mut self, evaluation: &Evaluation, before: (Seconds, u64)) -> Result<EpochRecord> {
        let score = evaluation.mean_accuracy();
        let best = self.position.best.is_none_or(|b| score > b);
        let (seconds_before, images_before) = before;
        let seconds = self.seconds.since(&seconds_before);
        let record = EpochRecord {
            epoch: self.position.epoch + 1,
            step: self.position.step,
            train_loss: mean_loss(&self.position).unwrap_or(f64::NAN),
            val: evaluation.tasks.clone(),
            confusion: evaluation.confusion.clone(),
            best,
            images_per_s: rate(self.images - images_before, seconds.training()),
            seconds,
        };
        if best {
            self.position.best = Some(score);
        }
        if self.position.batch == self.train_loader.n_batches() {
            let Position { step, epoch, best, .. } = self.position;
            self.position = Position { step, epoch: epoch + 1, best, ..Position::default() };
        }
        self.run_dir.record(&Record::Epoch(record.clone()))?;
        self.run_dir.record_epoch(EpochRecord::CSV_HEADER, &record.csv_row())?;
        self.save(Which::Last)?;
        if best {
            self.save(Which::Best)?;
        }
        Ok(record)
    }

    fn save(&self, which: Which) -> Result<()> {
        let state = State::new(self.position, self.encoders.clone());
        Checkpoint::write(&self.run_dir.checkpoint(which), &self.model, &self.optimizer, &state)
    }
}

/// One optimiser step.
struct Step<'a> {
    config: &'a Config,
    position: &'a Position,
    seconds: &'a mut Seconds,
}

impl Step<'_> {
    fn run(self, batch: &Batch, model: &mut FaceModel, optimizer: &mut Optimizer) -> Result<StepRecord> {
        let step = self.position.step + 1;
        let clock = Instant::now();
        let images = batch::images(batch, model.device())?;
        let targets = batch::targets(batch, model.device())?;
        let dropout = Dropout { rate: self.config.model.dropout as f32, seed: self.config.train.seed, step };
        let pass = model.forward_train(&images, dropout)?;
        let loss = multi_task(&pass.logits, &targets)?;
        let value = f64::from(loss.total.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::NonFiniteLoss { step, loss: value, files: batch.files.clone() });
        }
        let forward = clock.elapsed();
        model.backward(&pass, &loss.total)?;
        let backward = clock.elapsed();
        optimizer_step(model, optimizer)?;
        self.seconds.forward += forward.as_secs_f64();
        self.seconds.backward += (backward - forward).as_secs_f64();
        self.seconds.optimizer += (clock.elapsed() - backward).as_secs_f64();
        let mut losses = PerTask::default();
        for (task, loss) in Task::ALL.into_iter().zip(&loss.tasks) {
            losses[task] = f64::from(loss.to_scalar::<f32>()?);
        }
        let (epoch, lr) = (self.position.epoch + 1, self.config.optimizer.lr);
        Ok(StepRecord { epoch, step, loss: value, losses, lr, images: batch.len(), seconds: 0.0 })
    }
}

/// Moves the model's parameters along its gradient.
pub fn optimizer_step(model: &mut FaceModel, optimizer: &mut Optimizer) -> Result<()> {
    let (gradient, mode) = (model.gradient().clone(), model.backbone_mode());
    optimizer.step(model.parameters_mut(), &gradient, mode)
}

fn mean_loss(position: &Position) -> Option<f64> {
    (position.images > 0).then(|| position.loss_sum / position.images as f64)
}

fn rate(images: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
}
