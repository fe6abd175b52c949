//! One optimiser step: batches in, parameters moved, a record out.
//!
//! What a step does is a function of (learner's state, seed, step, batches). A step whose loss or gradient is not
//! finite moves nothing, BatchNorm's statistics included where it is to be skipped.
//!
//! Several ranks share a step's batches. Gradients are added in the order of [`tree`](crate::ranks::tree), statistics
//! move in the order of batches, and all else is decided from the batches' records, which every rank has: so the step
//! is the same on each of them, and, where a rank's share is a power of two, the same as on one.
//!
//! A GPU gets a whole step to do without anybody waiting for it. What came of it is asked for later, when the next one
//! is on its way; only learnt task weights, steps that may be skipped, and the BatchNorm statistics of several batches
//! in a step are waited for at once.

mod gathered;
mod length;
mod passes;
mod sam;
mod swa;

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{Device, Tensor};
use ff_core::{Encoders, UNKNOWN};
use ff_data::Loader;
use ff_model::host::with_slice_mut;
use ff_model::{FaceModel, Parameters};

use crate::Result;
use crate::config::{Config, OnNonFinite};
use crate::feed::Batches;
use crate::loss::Objective;
use crate::mixing::Mixing;
use crate::optim::average::Average;
use crate::optim::schedule::Schedule;
use crate::optim::{Measured, Measures, Optimizer, Step};
use crate::position::Position;
use crate::ranks::{Ranks, from_first};
use crate::records::{Seconds, StepRecord};
use gathered::Gathered;
pub use length::{Length, Limit};
pub use swa::{AveragedEpochs, estimate_statistics};

/// Everything that a step changes, and what it needs to know for that.
pub struct Learner {
    /// The network.
    pub model: FaceModel,
    /// What moves its parameters.
    pub optimizer: Optimizer,
    /// What is minimised.
    pub objective: Objective,
    /// The weights' average, where the run keeps one: a moving one, or one of epochs once there are any.
    pub average: Option<Average>,
    averaged: Option<AveragedEpochs>,
    schedule: Schedule,
    mixing: Mixing,
    config: Config,
}

/// Where in the run a step is.
#[derive(Debug, Clone, Copy)]
pub struct StepPosition {
    /// The epoch, from 1.
    pub epoch: u64,
    /// The step, from 1.
    pub step: u64,
    /// Which step it would be, from 1, had all steps before it been of the present size: that is what the schedule goes
    /// by. The same as `step` unless batch size or accumulation have changed between epochs.
    pub scheduled: u64,
    /// Training batches of the whole run before it.
    pub batches_before: u64,
    /// Its batches, those of all ranks together.
    pub batches: usize,
}

/// A step that the device has been given to do.
pub struct Pending {
    measured: Measured,
    /// The record, of which the measured part is still to come.
    record: StepRecord,
    files: Vec<String>,
    /// Batches used up.
    pub batches: usize,
}

/// A step that was taken.
pub struct FinishedStep {
    /// What to tell of it.
    pub record: StepRecord,
    /// The files of its batches, where the loss or gradient was not finite and nothing moved.
    pub broken: Option<Vec<String>>,
}

impl Pending {
    /// Whether nobody has to wait for what became of it. Always, where the host computes.
    pub fn is_known(&self) -> bool {
        self.measured.now().is_some()
    }
}

impl Learner {
    /// The learner that a configuration asks for, with the state of step 0, for a run over the training split of this
    /// loader that goes on at `position`.
    pub fn for_split(
        config: &Config,
        model: FaceModel,
        encoders: &Encoders,
        train: &Loader,
        position: &Position,
    ) -> Result<Self> {
        let targets = train.dataset().targets();
        let counts = encoders.each(|task, encoder| {
            let mut counts = vec![0; encoder.n_classes()];
            let known = targets[task].iter().filter(|&&id| id != UNKNOWN);
            known.for_each(|&id| counts[id as usize] += 1);
            counts
        });
        let objective = Objective::new(&config.loss, encoders, &counts, model.device())?;
        let objective = objective.for_samples(&config.loss, train.dataset().manifest(), targets)?;
        let schedule = Length::of(config, train.n_batches()).schedule(config.schedule.clone(), position);
        let schedule = match config.optimizer.frozen_lr {
            Some(factor) => schedule.after(config.model.freeze_epochs, factor),
            None => schedule,
        };
        Self::new(config, model, objective, schedule)
    }

    /// A learner at step 0.
    pub fn new(config: &Config, model: FaceModel, objective: Objective, schedule: Schedule) -> Result<Self> {
        let optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
        let mixing = Mixing { mixup: config.data.mixup, cutmix: config.data.cutmix, seed: config.train.seed };
        let config = config.clone();
        Ok(Self { model, optimizer, objective, average: None, averaged: None, schedule, mixing, config })
    }

    /// Begins the moving average at the present weights, if the run keeps one.
    pub fn begin_average(&mut self) -> Result<()> {
        let decay = self.config.optimizer.ema_decay;
        self.average = decay.map(|_| Average::new(decay, self.model.parameters())).transpose()?;
        Ok(())
    }

    /// Takes the present weights for a saved average, of these epochs or a moving one, if the run keeps one of its
    /// kind.
    pub fn restore_average(&mut self, averaged: Option<AveragedEpochs>) -> Result<()> {
        let optimizer = &self.config.optimizer;
        if optimizer.ema_decay.is_some() == averaged.is_none()
            && (optimizer.swa_from.is_some() || averaged.is_none())
        {
            self.average = Some(Average::new(optimizer.ema_decay, self.model.parameters())?);
            self.averaged = averaged;
        }
        Ok(())
    }

    /// Which epochs are in the average, if it is one of epochs: part of a checkpoint.
    pub fn averaged(&self) -> Option<AveragedEpochs> {
        self.averaged
    }

    /// Exchanges the model's weights and their average, if there is one; a second time brings them back.
    pub fn swap_average(&mut self) -> Result<()> {
        match &mut self.average {
            Some(average) => average.swap(self.model.parameters_mut()),
            None => Ok(()),
        }
    }

    /// Gives every rank what the first one has learnt so far.
    ///
    /// # Errors
    /// A rank is gone.
    pub fn share(&mut self, ranks: &mut dyn Ranks) -> Result<()> {
        if ranks.size() == 1 {
            return Ok(());
        }
        let has_average = self.average.is_some();
        let groups = self.objective.group_weights().cloned();
        let first =
            Some((self.optimizer.steps(), self.objective.learnt(), groups, self.averaged, has_average));
        let (steps, learnt, groups, averaged, has_average) = from_first(ranks, first)?;
        self.objective.restore(learnt);
        self.objective.restore_groups(groups);
        share_parameters(ranks, self.model.parameters_mut())?;
        if ranks.rank() > 0 && has_average {
            self.restore_average(averaged)?;
        }
        if self.average.is_some() {
            self.swap_average()?;
            share_parameters(ranks, self.model.parameters_mut())?;
            self.swap_average()?;
        }
        let state = self.optimizer.state()?;
        state.iter().try_for_each(|(_, tensor)| share_tensor(ranks, tensor))?;
        let state: BTreeMap<String, Tensor> = state.into_iter().collect();
        self.optimizer.restore(steps, |name| Ok(state[name].clone()))
    }

    /// Takes one step with as many of the epoch's batches as a step accumulates, those of all ranks together, of which
    /// `batches` gives this rank's own; `None` when the epoch is over.
    ///
    /// A GPU is only told what to do: [`Learner::resolve`] says what came of it. The next step may begin before that,
    /// unless it depends on it.
    pub fn step(
        &mut self,
        batches: &mut Batches,
        ranks: &mut dyn Ranks,
        at: StepPosition,
        seconds: &mut Seconds,
    ) -> Result<Option<Pending>> {
        if at.batches == 0 {
            return Ok(None);
        }
        let started = Instant::now();
        let skips = self.config.train.on_non_finite == OnNonFinite::Skip;
        let accumulates = self.config.optimizer.accumulate > 1;
        // A GPU moves them as it goes, with one batch in a step.
        let before = (self.model.device().is_cuda() && skips && !accumulates)
            .then(|| self.model.parameters().statistics().copy())
            .transpose()?;
        let mut kept = Vec::new();
        let keeps = self.config.optimizer.sam_rho > 0.0;
        let share = self.config.optimizer.accumulate / ranks.size();
        let mut draw = at.batches_before + (ranks.rank() * share) as u64;
        let mut next = |learner: &mut Self, step: &mut Gathered, seconds: &mut Seconds| {
            draw += 1;
            let Some(batch) = learner.next_batch(batches, draw, step, seconds)? else { return Ok(None) };
            let forward = learner.forward(&batch, step, seconds)?;
            if keeps {
                kept.push(batch);
            }
            Ok(Some(forward))
        };
        let (step, mut gradient) = match self.sum_gradients(ranks, at, &mut next, seconds) {
            Ok(summed) => summed,
            Err(why) => {
                // The step is not taken: what its first batches did to the statistics is undone.
                self.restore_statistics(before.as_ref())?;
                return Err(why);
            }
        };
        if step.losses.is_empty() {
            return Ok(None);
        }

        let mean = 1.0 / step.losses.batches() as f64;
        if self.config.optimizer.sam_rho > 0.0 {
            gradient = self.sharpness_aware(ranks, at, (&gradient, mean), &kept, seconds)?;
        }
        let clock = Instant::now();
        let lr_factor = self.schedule.factor(at.scheduled);
        let weights = self.objective.learnt().map(|learnt| learnt.weights());
        let mut measured = self.optimizer.measure(&gradient, mean, &step.losses)?;
        let known = match skips || weights.is_some() || !step.groups.is_empty() {
            true => Some(measured.wait()?),
            false => measured.now().cloned(),
        };
        if known.as_ref().is_none_or(|measures| measures.finite) {
            let parameters = self.model.parameters_mut();
            step.statistics.iter().try_for_each(|of_batch| parameters.move_statistics(of_batch))?;
            let average = self.average.as_mut().filter(|average| average.is_exponential());
            let how = Step { lr_factor, mode: self.model.backbone_mode(), average };
            self.optimizer.step(self.model.parameters_mut(), &gradient, &measured, how)?;
            if let Some(measures) = &known {
                let head_lr = self.config.optimizer.lr * self.config.optimizer.head_lr;
                self.objective.step(&measures.losses.tasks, head_lr * lr_factor);
                self.objective.step_groups(&step.groups);
            }
        } else if skips {
            self.restore_statistics(before.as_ref())?;
        }
        seconds.optimizer += clock.elapsed().as_secs_f64();

        let clock = Instant::now();
        batches.look_ahead();
        seconds.loader += clock.elapsed().as_secs_f64();
        let record = StepRecord {
            epoch: at.epoch,
            step: at.step,
            loss: f64::NAN,
            losses: self.objective.task_weights().map(|_| f64::NAN),
            lr: self.config.optimizer.lr * lr_factor,
            grad_norm: f64::NAN,
            weights,
            images: step.losses.images(),
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok(Some(Pending { measured, record, files: step.files, batches: step.losses.batches() }))
    }

    /// What became of a step. Waits until the device has done it.
    pub fn resolve(&mut self, pending: Pending, seconds: &mut Seconds) -> Result<FinishedStep> {
        let clock = Instant::now();
        let Pending { measured, record, files, .. } = pending;
        let Measures { losses, grad_norm, finite } = self.optimizer.finish(measured)?;
        let waited = clock.elapsed().as_secs_f64();
        seconds.optimizer += waited;
        let tasks = record.losses.names().cloned().zip(losses.tasks);
        let record = StepRecord {
            loss: losses.total,
            losses: tasks.collect(),
            grad_norm,
            seconds: record.seconds + waited,
            ..record
        };
        Ok(FinishedStep { record, broken: (!finite).then_some(files) })
    }

    fn restore_statistics(&mut self, before: Option<&Tensor>) -> Result<()> {
        let Some(before) = before else { return Ok(()) };
        Ok(self.model.parameters_mut().update(|_, statistics| statistics.slice_set(before, 0, 0))?)
    }
}

fn share_parameters(ranks: &mut dyn Ranks, parameters: &mut Parameters) -> Result<()> {
    parameters.update(|values, statistics| {
        share_tensor(ranks, values)?;
        share_tensor(ranks, statistics)
    })
}

/// Writes the first rank's values over a tensor (N,).
fn share_tensor(ranks: &mut dyn Ranks, tensor: &Tensor) -> Result<()> {
    if !tensor.device().is_cpu() {
        let here = tensor.to_device(&Device::Cpu)?;
        share_tensor(ranks, &here)?;
        return Ok(tensor.slice_set(&here.to_device(tensor.device())?, 0, 0)?);
    }
    with_slice_mut(tensor, |values| {
        let mut bytes = Vec::new();
        if ranks.rank() == 0 {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let shared = ranks.broadcast(&mut bytes);
        let floats = bytes.chunks_exact(size_of::<f32>());
        values.iter_mut().zip(floats).for_each(|(value, bytes)| {
            *value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        });
        Ok(shared)
    })?
}
