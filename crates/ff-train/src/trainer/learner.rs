//! One optimiser step: batches in, parameters moved, a record out.
//!
//! What a step does is a function of (learner's state, seed, step, batches). A step whose loss or gradient is not finite
//! moves nothing, BatchNorm's statistics included where it is to be skipped.

use std::time::Instant;

use candle_core::Tensor;
use ff_data::{Batch, Epoch, PerTask, Task};
use ff_model::{Dropout, FaceModel};

use crate::Result;
use crate::average::Average;
use crate::batch;
use crate::config::{Config, OnNonFinite};
use crate::losses::Objective;
use crate::mixing::Mixing;
use crate::optimizer::{Optimizer, Step, gradient_norm};
use crate::records::{Seconds, StepRecord};
use crate::schedule::Schedule;

/// Everything that a step changes, and what it needs to know for that.
pub struct Learner {
    /// The network.
    pub model: FaceModel,
    /// What moves its parameters.
    pub optimizer: Optimizer,
    /// What is minimised.
    pub objective: Objective,
    /// The weights' moving average, where the run keeps one.
    pub average: Option<Average>,
    schedule: Schedule,
    mixing: Mixing,
    config: Config,
}

/// Where in the run a step is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The epoch, from 1.
    pub epoch: u64,
    /// The step, from 1.
    pub step: u64,
    /// Training batches of the whole run before it.
    pub batches_before: u64,
}

/// A step that was taken.
pub struct Taken {
    /// What to tell of it.
    pub record: StepRecord,
    /// Batches used up.
    pub batches: usize,
    /// Their files, where the loss or gradient was not finite and nothing moved.
    pub broken: Option<Vec<String>>,
}

impl Learner {
    /// A learner at step 0.
    pub fn new(config: &Config, model: FaceModel, objective: Objective, schedule: Schedule) -> Result<Self> {
        let optimizer = Optimizer::new(config.optimizer.clone(), model.parameters())?;
        let mixing = Mixing { mixup: config.data.mixup, cutmix: config.data.cutmix, seed: config.train.seed };
        Ok(Self { model, optimizer, objective, average: None, schedule, mixing, config: config.clone() })
    }

    /// Begins the moving average at the present weights, if the run keeps one.
    pub fn begin_average(&mut self) -> Result<()> {
        let decay = self.config.optimizer.ema_decay;
        self.average = decay.map(|decay| Average::new(decay, self.model.parameters())).transpose()?;
        Ok(())
    }

    /// Exchanges the model's weights and their average, if there is one; a second time brings them back.
    pub fn swap_average(&mut self) -> Result<()> {
        match &mut self.average {
            Some(average) => average.swap(self.model.parameters_mut()),
            None => Ok(()),
        }
    }

    /// Takes one step with as many of the epoch's batches as a step accumulates; `None` when the epoch is over.
    pub fn step(&mut self, epoch: &mut Epoch, at: Place, seconds: &mut Seconds) -> Result<Option<Taken>> {
        let started = Instant::now();
        let statistics = match self.config.train.on_non_finite {
            OnNonFinite::Skip => Some(self.model.parameters().statistics().copy()?),
            OnNonFinite::Stop => None,
        };
        let mut sum = Sum::default();
        while sum.batches < self.config.optimizer.accumulate {
            let waiting = Instant::now();
            let Some(batch) = epoch.next() else { break };
            let batch = batch?;
            seconds.loader += waiting.elapsed().as_secs_f64();
            self.add_gradient(&batch, at, &mut sum, seconds)?;
        }
        if sum.batches == 0 {
            return Ok(None);
        }

        let clock = Instant::now();
        let gradient = sum.gradient.take().unwrap_or_else(|| self.model.gradient().clone());
        let mean = 1.0 / sum.batches as f64;
        let grad_norm = gradient_norm(&gradient)? * mean;
        let lr_factor = self.schedule.factor(at.step);
        let weights = self.objective.learnt().map(|learnt| learnt.weights());
        let (loss, losses) = sum.means();
        let finite = loss.is_finite() && grad_norm.is_finite();
        if finite {
            let step = Step {
                lr_factor,
                grad_scale: mean * self.optimizer.clip(grad_norm),
                mode: self.model.backbone_mode(),
                average: self.average.as_mut(),
            };
            self.optimizer.step(self.model.parameters_mut(), &gradient, step)?;
            let head_lr = self.config.optimizer.lr * self.config.optimizer.head_lr;
            self.objective.step(&losses, head_lr * lr_factor);
        } else if let Some(before) = statistics {
            self.model.parameters_mut().update(|_, statistics| statistics.slice_set(&before, 0, 0))?;
        }
        seconds.optimizer += clock.elapsed().as_secs_f64();

        let record = StepRecord {
            epoch: at.epoch,
            step: at.step,
            loss,
            losses,
            lr: self.config.optimizer.lr * lr_factor,
            grad_norm,
            weights,
            images: sum.images,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok(Some(Taken { record, batches: sum.batches, broken: (!finite).then_some(sum.files) }))
    }

    /// Forward and backward of one batch.
    fn add_gradient(&mut self, batch: &Batch, at: Place, sum: &mut Sum, seconds: &mut Seconds) -> Result<()> {
        let clock = Instant::now();
        let draw = at.batches_before + sum.batches as u64 + 1;
        let [_, _, height, width] = batch.shape;
        let mix = self.mixing.draw(draw, batch.len(), (height, width));
        let device = self.model.device();
        let images = match &mix {
            None => batch::images(batch, device)?,
            Some(mix) => Tensor::from_vec(mix.apply(batch), &batch.shape, device)?,
        };
        let targets = batch::targets(batch, device)?;
        let dropout =
            Dropout { rate: self.config.model.dropout as f32, seed: self.config.train.seed, step: draw };
        let pass = self.model.forward_train(&images, dropout)?;
        let loss = self.objective.loss(&pass.logits, &targets, mix.as_ref())?;
        let total = f64::from(loss.total.to_scalar::<f32>()?);
        let forward = clock.elapsed();
        self.model.backward(&pass, &loss.total)?;
        if self.config.optimizer.accumulate > 1 {
            let gradient = self.model.gradient();
            sum.gradient = Some(match sum.gradient.take() {
                None => gradient.copy()?,
                Some(sum) => (sum + gradient)?,
            });
        }
        let n = batch.len() as f64;
        sum.batches += 1;
        sum.images += batch.len();
        sum.loss += total * n;
        for (task, loss) in Task::ALL.into_iter().zip(&loss.tasks) {
            sum.losses[task] += f64::from(loss.to_scalar::<f32>()?) * n;
        }
        sum.files.extend(batch.files.iter().cloned());
        seconds.forward += forward.as_secs_f64();
        seconds.backward += (clock.elapsed() - forward).as_secs_f64();
        Ok(())
    }
}

/// What the batches of a step add up to.
#[derive(Default)]
struct Sum {
    batches: usize,
    images: usize,
    /// Of losses times images.
    loss: f64,
    losses: PerTask<f64>,
    files: Vec<String>,
    /// The sum of the batches' gradients; where a step is one batch, the model's own is used instead.
    gradient: Option<Tensor>,
}

impl Sum {
    fn means(&self) -> (f64, PerTask<f64>) {
        let n = self.images as f64;
        (self.loss / n, self.losses.map(|loss| loss / n))
    }
}
