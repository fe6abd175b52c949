//! `bench ranks`: a step that ranks share, its own work, what it waits for and what of that is hidden, and what other
//! networks would make of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::Tensor;
use ff_core::Encoders;
use ff_model::host::with_slice_mut;
use ff_model::{Dropout, FaceModel};
use ff_train::Config;
use ff_train::feed::{BatchPlan, Pass, check_room};
use ff_train::loss::multi_task;
use ff_train::optim::{Optimizer, optimizer_step};
use ff_train::ranks::parts::sum_while_making;
use ff_train::ranks::{Ranks, ReduceDtype};
use ff_train::setup::build_model;
use serde::Serialize;

use super::median;
use super::network::{synthetic, synthetic_targets};
use super::projection::{Compute, Projection};
use crate::job::Job;
use crate::output::{self, alert};

/// Medians over steps, as rank 0 saw them.
#[derive(Debug, Serialize)]
pub struct RanksFigures {
    ranks: usize,
    batch_size: usize,
    threads: usize,
    steps: usize,
    reduce_dtype: ReduceDtype,
    /// Of all ranks together, as they train.
    images_per_s: f64,
    /// A step as it is trained, with the sum beside the backward pass.
    step_ms: f64,
    /// A step that does one thing after the other.
    plain_step_ms: f64,
    /// Forward, backward and optimiser of one batch a rank.
    compute_ms: f64,
    backward_ms: f64,
    /// For the slowest rank.
    wait_ms: f64,
    /// The gradient's sum alone.
    sum_ms: f64,
    /// The records of the batches, with BatchNorm's statistics.
    gather_ms: f64,
    /// Of the sum alone, what a step does not wait for.
    hidden_ms: f64,
    /// What a step waits for the sum after its backward pass.
    shown_ms: f64,
    gradient_mb: f64,
    projection: Projection,
}

/// Milliseconds of a step's parts.
#[derive(Debug, Default)]
struct Laps {
    step: Vec<f64>,
    compute: Vec<f64>,
    backward: Vec<f64>,
    wait: Vec<f64>,
    gather: Vec<f64>,
    sum: Vec<f64>,
}

/// What a step is made of.
struct Bench<'a> {
    model: FaceModel,
    optimizer: Optimizer,
    images: Tensor,
    targets: Vec<Tensor>,
    dropout: f32,
    dtype: ReduceDtype,
    ranks: &'a mut dyn Ranks,
}

/// Runs `steps` steps of either kind after one to warm up, each rank with one batch in each. `gpu_ms` is what a GPU is
/// said to compute in a step.
pub fn run(config: &Config, encoders: &Encoders, steps: usize, gpu_ms: f64) -> Result<RanksFigures> {
    check_room(BatchPlan { prefetch: 0, ..BatchPlan::of(config, Pass::Training) }, config.data.batch_size)?;
    let mut job = Job::join(config.train.device, Duration::from_secs(600), |stalled| {
        alert!("error: {stalled}");
        std::process::exit(1);
    })?;
    let model = build_model(config, encoders)?;
    let dtype = config.train.reduce_dtype;
    let mut bench = Bench {
        optimizer: Optimizer::for_model(config.optimizer.clone(), &model)?,
        images: synthetic(config, &model)?,
        targets: synthetic_targets(config, encoders, &model)?,
        dropout: config.model.dropout as f32,
        dtype,
        ranks: job.ranks(),
        model,
    };
    let (mut plain, mut beside) = (Laps::default(), Laps::default());
    bench.plain(0, &mut Laps::default())?;
    bench.beside(0, &mut Laps::default())?;
    for step in 1..=steps as u64 {
        bench.plain(step, &mut plain)?;
        bench.beside(step, &mut beside)?;
    }
    let gradient_mb = 4e-6 * bench.model.gradient().elem_count() as f64;
    let n = bench.ranks.size();
    drop(bench);
    job.leave()?;
    let Laps { step, compute, backward, wait, gather, sum } = plain;
    let [plain_step_ms, compute_ms, backward_ms, wait_ms] = [step, compute, backward, wait].map(median);
    let [gather_ms, sum_ms, step_ms, shown_ms] = [gather, sum, beside.step, beside.sum].map(median);
    Ok(RanksFigures {
        ranks: n,
        batch_size: config.data.batch_size,
        threads: config.train.threads,
        steps,
        reduce_dtype: dtype,
        images_per_s: 1e3 * (n * config.data.batch_size) as f64 / step_ms,
        step_ms,
        plain_step_ms,
        compute_ms,
        backward_ms,
        wait_ms,
        sum_ms,
        gather_ms,
        hidden_ms: (sum_ms - shown_ms).max(0.0),
        shown_ms,
        gradient_mb,
        projection: Projection::new(Compute { compute_ms, backward_ms }, gpu_ms, gradient_mb),
    })
}

impl Bench<'_> {
    /// One thing after the other.
    fn plain(&mut self, step: u64, laps: &mut Laps) -> Result<()> {
        self.ranks.gather(&[])?;
        let clock = Instant::now();
        let (mut last, n) = (0.0, self.ranks.size());
        let mut lap = || {
            let now = clock.elapsed().as_secs_f64() * 1e3;
            now - std::mem::replace(&mut last, now)
        };
        let dropout = Dropout { rate: self.dropout, seed: 0, step };
        let pass = self.model.forward_train_collecting(&self.images, dropout)?;
        let loss = multi_task(&pass.logits, &self.targets)?.total;
        let forward = lap();
        self.model.backward(&pass, &loss)?;
        let backward = lap();
        self.ranks.gather(&[])?;
        laps.wait.push(lap());
        with_slice_mut(self.model.gradient(), |gradient| Ok(self.ranks.sum(gradient, n, self.dtype)))??;
        laps.sum.push(lap());
        self.ranks.gather(&statistics(pass.statistics))?;
        laps.gather.push(lap());
        optimizer_step(&mut self.model, &mut self.optimizer)?;
        laps.compute.push(forward + backward + lap());
        laps.backward.push(backward);
        laps.step.push(clock.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// The sum beside the backward pass, as in training.
    fn beside(&mut self, step: u64, laps: &mut Laps) -> Result<()> {
        self.ranks.gather(&[])?;
        let clock = Instant::now();
        let reduce = (self.ranks.size(), self.dtype);
        let dropout = Dropout { rate: self.dropout, seed: 0, step };
        let pass = self.model.forward_train_collecting(&self.images, dropout)?;
        let loss = multi_task(&pass.logits, &self.targets)?.total;
        let (gradient, model, ranks) = (self.model.gradient().clone(), &mut self.model, &mut *self.ranks);
        let mut made = clock;
        with_slice_mut(&gradient, |gradient| {
            Ok(sum_while_making(
                ranks,
                reduce,
                |_| Ok(()),
                |done| {
                    let result = model.backward_in_parts(&pass, &loss, gradient, done);
                    made = Instant::now();
                    result
                },
            ))
        })???;
        laps.sum.push(made.elapsed().as_secs_f64() * 1e3);
        self.ranks.gather(&statistics(pass.statistics))?;
        optimizer_step(&mut self.model, &mut self.optimizer)?;
        laps.step.push(clock.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}

fn statistics(of_batch: Option<Vec<f64>>) -> Vec<u8> {
    of_batch.iter().flatten().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn print(figures: &RanksFigures) {
    let RanksFigures { ranks, threads, batch_size, compute_ms, wait_ms, sum_ms, gather_ms, .. } = figures;
    output::say!(
        "{:.2} images/s on {ranks} ranks of {threads} threads, {:.0} ms a step of {ranks} batches of {batch_size}",
        figures.images_per_s,
        figures.step_ms
    );
    output::say!(
        "one thing after the other {:.0} ms: compute {compute_ms:.0} ms (backward {:.0}), waiting for others \
         {wait_ms:.0} ms, sum of {:.1} MB as {} {sum_ms:.0} ms, records {gather_ms:.1} ms",
        figures.plain_step_ms,
        figures.backward_ms,
        figures.gradient_mb,
        figures.reduce_dtype.name()
    );
    output::say!(
        "the sum beside the backward pass: {:.0} ms hidden, {:.0} ms waited for after it, the others included",
        figures.hidden_ms,
        figures.shown_ms
    );
    figures.projection.print();
}
