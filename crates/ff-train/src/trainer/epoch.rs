//! An epoch of a run: its steps, its evaluation, its record.
//!
//! The position moves when a step is begun; journal, observer and the sums of losses when it is known what came of it.
//! On the CPU that is the same moment.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ff_core::fault::{self, Point};
use ff_eval::Evaluation;
use ff_model::BackboneMode;

use super::observer::Observer;
use super::{Store, Trainer};
use crate::config::{Config, OnNonFinite};
use crate::infer::predict_on_ranks;
use crate::learner::{FinishedStep, StepPosition, estimate_statistics};
use crate::position::Position;
use crate::ranks::{on_any, share_of_steps};
use crate::records::{EpochRecord, Seconds, StepRecord};
use crate::run::journal::Journal;
use crate::{Error, Result};

/// With `on_non_finite = "skip"`, so many skipped steps in a row stop the run.
const MOST_SKIPPED_IN_A_ROW: u64 = 10;

impl Trainer<'_> {
    /// The rest of the current epoch, as far as `max_steps` allows. Breaks when asked to stop.
    pub(super) fn train_epoch(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<ControlFlow<()>> {
        let mut steps_left = self.length.steps_left(&self.position);
        if steps_left == 0 || self.length.is_trained(&self.position) {
            // What is left is to evaluate it.
            return Ok(ControlFlow::Continue(()));
        }
        let epoch = self.position.epoch;
        let model = &self.config.model;
        let frozen = model.freeze_backbone || epoch < model.freeze_epochs;
        let mode = if frozen { BackboneMode::Frozen } else { BackboneMode::Trainable };
        self.learner.model.set_backbone_mode(mode);
        let Self { ranks, config, train, learner, store, journal, length, position, seconds, images, .. } =
            self;
        let n_batches = train.loader().n_batches();
        let batches_before = epoch * n_batches as u64;
        let own = share_of_steps(*ranks, position.batch..n_batches, config.optimizer.accumulate);
        let mut batches = train.batches(epoch, own);
        let mut recorder = StepRecorder { config, store, journal, position, images, observer };
        let mut unsettled = UnsettledStep::default();
        let mut flow = ControlFlow::Continue(());
        let mut no_batch = None;
        while steps_left > 0 {
            ranks.at_step(recorder.position.step + 1);
            fault::reach(Point::Step, recorder.position.step + 1)?;
            // Never by what this rank alone was told: the others would wait for it for ever.
            if on_any(*ranks, stop.load(Ordering::Relaxed))? {
                flow = ControlFlow::Break(());
                break;
            }
            let at = StepPosition {
                epoch: epoch + 1,
                step: recorder.position.step + 1,
                scheduled: length.scheduled(recorder.position) + 1,
                batches_before: batches_before + recorder.position.batch as u64,
                batches: (n_batches - recorder.position.batch).min(config.optimizer.accumulate),
            };
            let begun = match learner.step(&mut batches, *ranks, at, seconds) {
                Ok(Some(begun)) => begun,
                Ok(None) => break,
                Err(why @ (Error::Data(_) | Error::OnRank { .. })) => {
                    no_batch = Some(why);
                    break;
                }
                Err(e) => return Err(e),
            };
            steps_left -= 1;
            recorder.position.step += 1;
            recorder.position.batch += begun.batches;
            recorder.position.evaluated = false;
            let every = config.run.checkpoint_steps;
            let due = every.is_some_and(|every| recorder.position.step.is_multiple_of(every));
            let settle = if due || begun.is_known() { Settle::Now } else { Settle::Later };
            let mut moved = false;
            for step in unsettled.begin(begun, settle) {
                moved = recorder.enter(learner.resolve(step, seconds)?)?;
            }
            if due && moved {
                store.save(*ranks, learner, *recorder.position)?;
            }
        }
        if let Some(last) = unsettled.end() {
            recorder.enter(learner.resolve(last, seconds)?)?;
        }
        match no_batch {
            None => Ok(flow),
            Some(why) => {
                store.save_at_failure(*ranks, learner, *position);
                Err(why)
            }
        }
    }

    /// Validation of the weights, and of their average where there is one; `None` when asked to stop.
    pub(super) fn evaluate(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluated>> {
        let started = Instant::now();
        let Some(raw) = self.evaluate_once(observer, stop)? else { return Ok(None) };
        let mut ema = None;
        let of_epochs = self.length.is_trained(&self.position)
            && self.learner.average_epoch(self.position.epoch + 1, self.position.step)?;
        if self.learner.average.is_some() {
            self.learner.swap_average()?;
            let ready = if of_epochs { self.estimate_statistics() } else { Ok(()) };
            let average = ready.and_then(|()| self.evaluate_once(observer, stop));
            self.learner.swap_average()?;
            let Some(average) = average? else { return Ok(None) };
            ema = Some(average);
        }
        self.seconds.evaluation += started.elapsed().as_secs_f64();
        Ok(Some(Evaluated { raw, ema }))
    }

    /// Of the weights in place, those of a backbone that learns.
    fn estimate_statistics(&mut self) -> Result<()> {
        if self.config.model.freeze_backbone {
            return Ok(());
        }
        estimate_statistics(&mut self.learner.model, &mut self.train, self.ranks, self.position.epoch)
    }

    fn evaluate_once(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>> {
        let total = self.val.loader().dataset().len();
        // The others' share goes on at about the same pace.
        let n_ranks = self.ranks.size();
        let mut fault: io::Result<()> = fault::reach(Point::Evaluate, 0);
        let predictions = predict_on_ranks(self.ranks, &mut self.learner.model, &mut self.val, |done| {
            observer.evaluating((done * n_ranks).min(total), total);
            fault = std::mem::replace(&mut fault, Ok(())).and_then(|()| fault::reach(Point::Evaluate, done));
            if fault.is_err() || stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        fault?;
        Ok(predictions.map(|p| p.evaluate(&self.store.encoders, &[])).transpose()?)
    }

    /// Records and saves an epoch that is trained and evaluated.
    pub(super) fn finish_epoch(
        &mut self,
        evaluated: Evaluated,
        before: (Seconds, u64),
    ) -> Result<EpochRecord> {
        let Evaluated { raw, ema } = evaluated;
        let step = self.position.step;
        let deciding = ema.as_ref().unwrap_or(&raw);
        let score = self.config.train.criterion.score(&deciding.tasks);
        // Part of an epoch says nothing about the epochs.
        let counts = self.length.is_trained(&self.position) && score.is_finite();
        let best = counts && self.position.best.is_none_or(|best| score > best);
        let (seconds_before, images_before) = before;
        let seconds = self.seconds.since(&seconds_before);
        let record = EpochRecord {
            epoch: self.position.epoch + 1,
            step,
            train_loss: mean_loss(&self.position),
            confusion: deciding.confusion.clone(),
            val: raw.tasks,
            ema: ema.map(|average| average.tasks),
            best,
            images_per_s: rate(self.images - images_before, seconds.training()),
            seconds,
        };
        let position = &mut self.position;
        if best {
            (position.best, position.best_step, position.epochs_since_best) = (Some(score), Some(step), 0);
        } else if counts {
            position.epochs_since_best += 1;
        }
        self.close_epoch();
        if self.store.writes() {
            self.journal.epoch(&record)?;
        }
        self.store.save(self.ranks, &mut self.learner, self.position)?;
        Ok(record)
    }

    /// Passes over an evaluation in which the model's answers are no numbers: nothing of it is recorded or saved.
    ///
    /// # Errors
    /// [`Error::Diverged`], unless such steps are to be skipped.
    pub(super) fn pass_over(&mut self, why: &Error) -> Result<()> {
        let step = self.position.step;
        match self.config.train.on_non_finite {
            OnNonFinite::Stop => return Err(self.store.diverged(step, why.to_string())),
            OnNonFinite::Skip if !self.store.writes() => {}
            OnNonFinite::Skip => tracing::warn!("step {step}: {why}; no checkpoint is written"),
        }
        self.close_epoch();
        Ok(())
    }

    /// The position after an evaluation: where the epoch is trained to its end, the beginning of the next.
    fn close_epoch(&mut self) {
        let position = &mut self.position;
        position.evaluated = true;
        if self.length.is_trained(position) {
            *position =
                Position { epoch: position.epoch + 1, batch: 0, images: 0, loss_sum: 0.0, ..*position };
        }
    }
}

/// What is kept of steps that were taken, and who hears of them.
struct StepRecorder<'a> {
    config: &'a Config,
    store: &'a Store,
    journal: &'a mut Journal,
    position: &'a mut Position,
    images: &'a mut u64,
    observer: &'a mut dyn Observer,
}

impl StepRecorder<'_> {
    /// Enters a step, in the order in which they were begun. Gives whether it moved anything.
    ///
    /// # Errors
    /// [`Error::NonFinite`], if such steps are not to be skipped, or not so many in a row.
    fn enter(&mut self, FinishedStep { record, broken }: FinishedStep) -> Result<bool> {
        let position = &mut *self.position;
        if let Some(files) = broken {
            position.skipped += 1;
            position.skipped_in_a_row += 1;
            let StepRecord { step, loss, grad_norm, .. } = record;
            let give_up = position.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW;
            if self.config.train.on_non_finite == OnNonFinite::Stop || give_up {
                let last_good = self.store.run_dir.last_good();
                return Err(Error::NonFinite { step, loss, grad_norm, last_good, files });
            }
            self.observer.skipped(&record, &files);
            return Ok(false);
        }
        *self.images += record.images as u64;
        position.skipped_in_a_row = 0;
        position.images += record.images as u64;
        position.loss_sum += record.loss * record.images as f64;
        if self.store.writes() {
            self.journal.step(&record)?;
        }
        self.observer.step(&record);
        Ok(true)
    }
}

/// The last step, as long as nothing needs to know what came of it: a GPU goes on with the next one meanwhile.
struct UnsettledStep<T>(Option<T>);

/// When what came of a step must be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settle {
    /// Before the next step: it is known anyway, or a checkpoint depends on it.
    Now,
    /// When the next step is on its way.
    Later,
}

impl<T> Default for UnsettledStep<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> UnsettledStep<T> {
    /// Takes in a step that was begun, and gives those that are to be settled now, in order.
    fn begin(&mut self, step: T, settle: Settle) -> impl Iterator<Item = T> + use<T> {
        let before = self.0.take();
        let now = match settle {
            Settle::Now => Some(step),
            Settle::Later => {
                self.0 = Some(step);
                None
            }
        };
        before.into_iter().chain(now)
    }

    /// The step that is still open when no other comes.
    fn end(self) -> Option<T> {
        self.0
    }
}

/// The figures of an epoch's end.
pub(super) struct Evaluated {
    raw: Evaluation,
    /// Of the weights' average.
    ema: Option<Evaluation>,
}

pub(super) fn mean_loss(position: &Position) -> Option<f64> {
    (position.images > 0).then(|| position.loss_sum / position.images as f64)
}

pub(super) fn rate(images: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever must be known at once and whatever may wait: every step is settled once, in order, and at most
        /// one step late.
        #[test]
        fn steps_are_settled_in_order_and_one_step_late_at_most(waits in prop::collection::vec(any::<bool>(), 0..40)) {
            let (mut unsettled, mut settled) = (UnsettledStep::default(), Vec::new());
            for (step, &waits) in waits.iter().enumerate() {
                let settle = if waits { Settle::Later } else { Settle::Now };
                settled.extend(unsettled.begin(step, settle));
                prop_assert_eq!(settled.len(), step + usize::from(!waits));
            }
            settled.extend(unsettled.end());
            prop_assert_eq!(settled, (0..waits.len()).collect::<Vec<_>>());
        }
    }
}
