//! `bench train` and `bench infer`: the network on synthetic images, or with the loader beside it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use ff_core::Encoders;
use ff_data::{Manifest, Row, Splits};
use ff_model::{DeviceSpec, Dropout, FaceModel};
use ff_train::Config;
use ff_train::feed::{BatchPlan, Pass, check_room};
use ff_train::learner::{Learner, StepPosition};
use ff_train::loss::{StepLosses, multi_task};
use ff_train::machine::{self, Gpu};
use ff_train::optim::{Measured, Optimizer, Step, optimizer_step};
use ff_train::position::Position;
use ff_train::ranks::Alone;
use ff_train::records::Seconds;
use ff_train::setup::{build_model, train_feeder};
use serde::Serialize;

/// Milliseconds of a training step's parts.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Parts {
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
}

impl Parts {
    pub fn sum(&self) -> f64 {
        self.forward + self.backward + self.optimizer
    }
}

/// `steps` training steps after one to warm up.
pub fn train(config: &Config, encoders: &Encoders, steps: usize) -> Result<Vec<Parts>> {
    check_room(BatchPlan { prefetch: 0, ..BatchPlan::of(config, Pass::Training) }, config.data.batch_size)?;
    let mut model = build_model(config, encoders)?;
    let mut optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
    let images = synthetic(config, &model)?;
    let targets = synthetic_targets(config, encoders, &model)?;
    let mut all = Vec::new();
    for step in 0..=steps {
        let clock = Instant::now();
        let dropout = Dropout { rate: config.model.dropout as f32, seed: 0, step: step as u64 };
        let pass = model.forward_train(&images, dropout)?;
        let loss = multi_task(&pass.logits, &targets)?.total;
        loss.to_scalar::<f32>()?;
        let forward = clock.elapsed().as_secs_f64() * 1e3;
        model.backward(&pass, &loss)?;
        let backward = clock.elapsed().as_secs_f64() * 1e3 - forward;
        optimizer_step(&mut model, &mut optimizer)?;
        let optimizer = clock.elapsed().as_secs_f64() * 1e3 - forward - backward;
        all.push(Parts { forward, backward, optimizer });
    }
    Ok(all.split_off(1))
}

/// Milliseconds of a forward pass in evaluation mode.
pub fn infer(config: &Config, encoders: &Encoders, steps: usize) -> Result<Timing> {
    if config.train.device == DeviceSpec::Cpu {
        check_room(
            BatchPlan { prefetch: 0, ..BatchPlan::of(config, Pass::Evaluation) },
            config.data.batch_size,
        )?;
    }
    let mut model = build_model(config, encoders)?;
    let images = synthetic(config, &model)?;
    let device = model.device().clone();
    blocks(config, &device, steps, || {
        let logits = model.predict(&images)?.logits;
        // On a GPU the end of the block waits for it.
        if device.is_cpu() {
            logits.iter().try_for_each(|logits| logits.to_vec2::<f32>().map(drop))?;
        }
        Ok(())
    })
}

/// Milliseconds of a whole training step on a GPU, which nothing interrupts.
pub fn train_on_gpu(config: &Config, encoders: &Encoders, steps: usize) -> Result<Timing> {
    let mut model = build_model(config, encoders)?;
    let mut optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
    let (images, targets) = (synthetic(config, &model)?, synthetic_targets(config, encoders, &model)?);
    let mut dropout = Dropout { rate: config.model.dropout as f32, seed: 0, step: 0 };
    let device = model.device().clone();
    let mut open: Option<Measured> = None;
    blocks(config, &device, steps, || {
        dropout.step += 1;
        let pass = model.forward_train(&images, dropout)?;
        let loss = multi_task(&pass.logits, &targets)?;
        model.backward(&pass, &loss.total)?;
        let mut losses = StepLosses::default();
        losses.push(&loss, config.data.batch_size)?;
        let gradient = model.gradient().clone();
        let measured = optimizer.measure(&gradient, 1.0, &losses)?;
        optimizer.step(model.parameters_mut(), &gradient, &measured, Step::default())?;
        // The figures of the step before: as a run reads them.
        if let Some(before) = open.replace(measured) {
            optimizer.finish(before)?;
        }
        Ok(())
    })
}

/// Rows that are repeated in memory to make one long epoch.
const MOST_ROWS: usize = 10_000_000;

/// Milliseconds of a training step that takes its batches from the loader: the sample again and again, in one epoch.
pub fn train_with_loader(config: &Config, splits: Splits, steps: usize) -> Result<Timing> {
    let model = build_model(config, &splits.encoders)?;
    let device = model.device().clone();
    let wanted = Pace::on(&device).steps(steps) * config.data.batch_size;
    ensure!(wanted <= MOST_ROWS, "expected at most {MOST_ROWS} images in all, found {wanted}");
    let rows: Vec<Row> = splits.train.rows().iter().cycle().take(wanted).cloned().collect();
    let manifest = Manifest::new(
        splits.train.path(),
        splits.train.schema(),
        splits.train.extra_columns().to_vec(),
        rows,
    )?;
    let mut feeder = train_feeder(config, manifest, &splits.encoders, &model)?;
    let mut learner =
        Learner::for_split(config, model, &splits.encoders, feeder.loader(), &Position::default())?;
    let mut batches = feeder.epoch(0, 0);
    let (mut step, mut seconds, mut open) = (0, Seconds::default(), None);
    blocks(config, &device, steps, || {
        let at =
            StepPosition { epoch: 1, step: step + 1, scheduled: step + 1, batches_before: step, batches: 1 };
        let begun = learner
            .step(&mut batches, &mut Alone, at, &mut seconds)?
            .context("the epoch is over too early")?;
        step += 1;
        if let Some(before) = open.replace(begun) {
            learner.resolve(before, &mut seconds)?;
        }
        Ok(())
    })
}

/// What was measured.
pub struct Timing {
    /// Milliseconds of a step, one value a block.
    pub ms: Vec<f64>,
    /// The GPU with all in it that a step needs.
    pub gpu: Option<Gpu>,
}

/// How steps are timed.
struct Pace {
    warm_up: usize,
    /// Steps that are timed together.
    block: usize,
}

impl Pace {
    /// A GPU is timed over blocks of steps, between which it is waited for.
    fn on(device: &Device) -> Self {
        match device {
            Device::Cpu => Self { warm_up: 1, block: 1 },
            _ => Self { warm_up: 20, block: 20 },
        }
    }

    /// Steps that `blocks` blocks take, warming up included.
    fn steps(&self, blocks: usize) -> usize {
        self.warm_up + blocks * self.block
    }
}

/// Times `count` blocks of steps, after some to warm up.
fn blocks(
    config: &Config,
    device: &Device,
    count: usize,
    mut step: impl FnMut() -> Result<()>,
) -> Result<Timing> {
    let Pace { warm_up, block } = Pace::on(device);
    (0..warm_up).try_for_each(|_| step())?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        device.synchronize()?;
        let clock = Instant::now();
        (0..block).try_for_each(|_| step())?;
        device.synchronize()?;
        times.push(clock.elapsed().as_secs_f64() * 1e3 / block as f64);
    }
    Ok(Timing { ms: times, gpu: machine::gpu(config.train.device)? })
}

/// Images (B,3,H,W) with the spread of normalised ones; the speed does not depend on what they show.
pub fn synthetic(config: &Config, model: &FaceModel) -> Result<Tensor> {
    let size = config.data.image_size;
    let n = config.data.batch_size * 3 * size * size;
    let values: Vec<f32> = (0..n).map(|i| (i % 251) as f32 / 62.5 - 2.0).collect();
    Ok(Tensor::from_vec(values, (config.data.batch_size, 3, size, size), model.device())?)
}

/// Class ids (B,) a task.
pub fn synthetic_targets(config: &Config, encoders: &Encoders, model: &FaceModel) -> Result<Vec<Tensor>> {
    let (n, classes) = (config.data.batch_size, encoders.n_classes());
    let ids = |&c: &usize| Tensor::new((0..n).map(|i| (i % c) as u32).collect::<Vec<_>>(), model.device());
    Ok(classes.values().map(ids).collect::<Result<_, _>>()?)
}
