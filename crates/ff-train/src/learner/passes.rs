//! Forward and backward passes of a step's batches, and the sum of what they come to over all ranks.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use ff_model::host::with_slice_mut;
use ff_model::{Dropout, TrainPass};

use super::gathered::Gathered;
use super::{Learner, StepPosition};
use crate::Result;
use crate::feed::{Batches, InputBatch, Ready};
use crate::loss::LossInput;
use crate::mixing::Mix;
use crate::ranks::Ranks;
use crate::ranks::parts::{give, sum_while_making};
use crate::records::Seconds;

/// Gives the forward pass and loss of this rank's next batch of a step, noted in the step; `None` when there are no more.
pub(super) type NextForward<'n> =
    dyn FnMut(&mut Learner, &mut Gathered, &mut Seconds) -> Result<Option<(TrainPass, Tensor)>> + 'n;

/// A batch where the model computes, and what was drawn for it.
pub(super) struct ReadyBatch {
    images: Ready,
    /// (B,) a task.
    targets: Vec<Tensor>,
    /// Which training samples they are, (B,).
    rows: Vec<u32>,
    mix: Option<Mix>,
    dropout: Dropout,
    /// The average's answers, where they are learnt from.
    average: Option<Vec<Tensor>>,
}

impl Learner {
    /// Forward and backward of a step's batches, of which `next` gives this rank's own in order: what those of all ranks
    /// come to, and the sum of their gradients (N,).
    pub(super) fn sum_gradients(
        &mut self,
        ranks: &mut dyn Ranks,
        at: StepPosition,
        next: &mut NextForward<'_>,
        seconds: &mut Seconds,
    ) -> Result<(Gathered, Tensor)> {
        if ranks.size() > 1 && ranks.gpu().is_some() {
            return self.add_whole(ranks, at, next, seconds);
        }
        if ranks.size() > 1 {
            let step = self.add_shared_batches(ranks, at, next, seconds)?;
            return Ok((step, self.model.gradient().clone()));
        }
        let mut step = Gathered::default();
        self.add_batches(self.config.optimizer.accumulate, next, &mut step, seconds)?;
        let sum = step.take_gradient()?;
        Ok((step, sum.unwrap_or_else(|| self.model.gradient().clone())))
    }

    /// Forward and backward of up to `n` batches.
    fn add_batches(
        &mut self,
        n: usize,
        next: &mut NextForward<'_>,
        step: &mut Gathered,
        seconds: &mut Seconds,
    ) -> Result<()> {
        for _ in 0..n {
            let Some((pass, loss)) = next(self, step, seconds)? else { break };
            let clock = Instant::now();
            self.model.backward(&pass, &loss)?;
            seconds.backward += clock.elapsed().as_secs_f64();
            if self.config.optimizer.accumulate > 1 {
                step.add_gradient(self.model.gradient())?;
            }
        }
        Ok(())
    }

    /// Forward and backward of this rank's batches of a step, and the sum of all ranks' gradients, which goes out while
    /// the backward pass of the last batch still runs. Gives the batches of all ranks.
    fn add_shared_batches(
        &mut self,
        ranks: &mut dyn Ranks,
        at: StepPosition,
        next: &mut NextForward<'_>,
        seconds: &mut Seconds,
    ) -> Result<Gathered> {
        let (own, ranks_with_batches) = self.own_batches(ranks, at);
        let mut step = Gathered::default();
        let mut here = self.add_batches(own.saturating_sub(1), next, &mut step, seconds);
        let mut last = None;
        if here.is_ok() && own > 0 {
            match next(self, &mut step, seconds) {
                Ok(pass) => last = pass,
                Err(why) => here = Err(why),
            }
        }
        let clock = Instant::now();
        let reduce = (ranks_with_batches, self.config.train.reduce_dtype);
        let (gradient, model) = (self.model.gradient().clone(), &mut self.model);
        let mut made_after = Duration::ZERO;
        with_slice_mut(&gradient, |gradient| {
            let mut place = gradient.len();
            let before = |part: &mut [f32]| {
                place -= part.len();
                step.add_earlier_to(place, part)
            };
            Ok(sum_while_making(ranks, reduce, before, |done| {
                let made = match &last {
                    Some((pass, loss)) => model.backward_in_parts(pass, loss, gradient, done),
                    None => {
                        gradient.fill(0.0);
                        give(gradient, &model.part_begins(), done);
                        Ok(())
                    }
                };
                made_after = clock.elapsed();
                made
            }))
        })???;
        seconds.backward += made_after.as_secs_f64();
        let step = step.over(ranks, here, self.model.device());
        seconds.optimizer += (clock.elapsed() - made_after).as_secs_f64();
        step
    }

    /// As [`Learner::add_shared_batches`] for ranks with a GPU each: the gradient is added where it lies, when all of
    /// it is there. Gives the sum, too.
    fn add_whole(
        &mut self,
        ranks: &mut dyn Ranks,
        at: StepPosition,
        next: &mut NextForward<'_>,
        seconds: &mut Seconds,
    ) -> Result<(Gathered, Tensor)> {
        let (own, ranks_with_batches) = self.own_batches(ranks, at);
        let mut step = Gathered::default();
        let passed = self.add_batches(own, next, &mut step, seconds);
        // Who has failed, or has no batch, takes part.
        let (sum, here) = match passed.and_then(|()| step.take_gradient()) {
            Ok(Some(sum)) => (sum, Ok(())),
            nothing => (self.model.parameters().zero_gradient()?, nothing.map(drop)),
        };
        let clock = Instant::now();
        ranks.sum_tensor(&sum, ranks_with_batches, self.config.train.reduce_dtype)?;
        let step = step.over(ranks, here, self.model.device())?;
        seconds.optimizer += clock.elapsed().as_secs_f64();
        Ok((step, sum))
    }

    /// How many of a step's batches are this rank's, and how many ranks have any.
    fn own_batches(&self, ranks: &dyn Ranks, at: StepPosition) -> (usize, usize) {
        let share = self.config.optimizer.accumulate / ranks.size();
        let own = at.batches.saturating_sub(ranks.rank() * share).min(share);
        (own, at.batches.div_ceil(share))
    }

    /// The next batch, the run's `draw`-th, from 1. `None` when there are no more.
    pub(super) fn next_batch(
        &mut self,
        batches: &mut Batches,
        draw: u64,
        step: &mut Gathered,
        seconds: &mut Seconds,
    ) -> Result<Option<ReadyBatch>> {
        let clock = Instant::now();
        let Some(batch) = batches.next() else { return Ok(None) };
        let InputBatch { images, samples } = batch?;
        seconds.loader += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        let mix = self.mixing.draw(draw, samples.len(), images.size());
        let device = self.model.device();
        let images = images.ready(mix.as_ref(), device)?;
        let targets = samples.targets_on(device)?;
        let dropout =
            Dropout { rate: self.config.model.dropout as f32, seed: self.config.train.seed, step: draw };
        let average = self.average_answers(&images)?;
        step.files.extend(samples.files);
        seconds.forward += clock.elapsed().as_secs_f64();
        Ok(Some(ReadyBatch { images, targets, rows: samples.sample_indices, mix, dropout, average }))
    }

    /// Forward pass and loss of a batch.
    pub(super) fn forward(
        &mut self,
        batch: &ReadyBatch,
        step: &mut Gathered,
        seconds: &mut Seconds,
    ) -> Result<(TrainPass, Tensor)> {
        let clock = Instant::now();
        let images = batch.images.images();
        // A GPU moves the statistics as it goes, where that is what the step comes to.
        let moves = self.model.device().is_cuda() && self.config.optimizer.accumulate == 1;
        let mut pass = if moves {
            self.model.forward_train(images, batch.dropout)?
        } else {
            self.model.forward_train_collecting(images, batch.dropout)?
        };
        let loss = self.objective.loss(&LossInput {
            logits: &pass.logits,
            labels: &batch.targets,
            mix: batch.mix.as_ref(),
            rows: &batch.rows,
            average: batch.average.as_deref(),
        })?;
        step.losses.push(&loss, batch.rows.len())?;
        step.groups.extend(loss.groups);
        step.statistics.extend(pass.statistics.take());
        seconds.forward += clock.elapsed().as_secs_f64();
        Ok((pass, loss.total))
    }

    /// What the weights' moving average answers, where that is learnt from.
    fn average_answers(&mut self, images: &Ready) -> Result<Option<Vec<Tensor>>> {
        if !self.objective.asks_average() {
            return Ok(None);
        }
        self.swap_average()?;
        let answers = self.model.predict(images.images());
        self.swap_average()?;
        Ok(Some(answers?.logits))
    }
}
