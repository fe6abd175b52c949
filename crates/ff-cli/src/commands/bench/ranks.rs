//! `bench ranks`: a step that ranks share, its own work and what it waits for, and what other networks would make of
//! it.

use std::time::{Duration, Instant};

use anyhow::Result;
use ff_core::Encoders;
use ff_model::Dropout;
use ff_model::host::with_slice_mut;
use ff_train::Config;
use ff_train::feed::{BatchPlan, Pass, check_room};
use ff_train::loss::multi_task;
use ff_train::optim::{Optimizer, optimizer_step};
use ff_train::setup::build_model;
use serde::Serialize;

use super::median;
use super::network::{synthetic, synthetic_targets};
use crate::job::Job;
use crate::output::{self, alert};

/// Networks, with the gigabytes a second that a sum gets out of them: under 1, 10, 25 and 100 Gbit/s by what TCP and
/// its copies cost.
const LINKS: [(&str, f64); 4] = [("1 GbE", 0.118), ("10 GbE", 1.1), ("25 GbE", 2.8), ("100 GbE", 11.0)];
/// Machines with a rank each.
const MACHINES: [usize; 5] = [2, 4, 8, 32, 128];

/// Medians over steps, as rank 0 saw them.
#[derive(Debug, Serialize)]
pub struct RanksFigures {
    ranks: usize,
    batch_size: usize,
    threads: usize,
    steps: usize,
    /// Of all ranks together.
    images_per_s: f64,
    step_ms: f64,
    /// Forward, backward and optimiser of one batch a rank.
    compute_ms: f64,
    /// For the slowest rank.
    wait_ms: f64,
    /// The gradient's sum.
    sum_ms: f64,
    /// The records of the batches, with BatchNorm's statistics.
    gather_ms: f64,
    gradient_mb: f64,
    projection: Vec<Projection>,
}

/// What a step would take on machines with a rank each: the compute that was measured, and a sum that moves
/// `2 (n - 1) / n` gradients over a link.
#[derive(Debug, Serialize)]
struct Projection {
    link: &'static str,
    gb_per_s: f64,
    machines: usize,
    sum_ms: f64,
    /// Of `machines` times one machine's images a second.
    efficiency: f64,
}

/// Runs `steps` steps after one to warm up, each rank with one batch in each.
pub fn run(config: &Config, encoders: &Encoders, steps: usize) -> Result<RanksFigures> {
    check_room(BatchPlan { prefetch: 0, ..BatchPlan::of(config, Pass::Training) }, config.data.batch_size)?;
    let mut job = Job::join(Duration::from_secs(600), |stalled| {
        alert!("error: {stalled}");
        std::process::exit(1);
    })?;
    let mut model = build_model(config, encoders)?;
    let mut optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
    let images = synthetic(config, &model)?;
    let targets = synthetic_targets(config, encoders, &model)?;
    let ranks = job.ranks();
    let n = ranks.size();
    let mut all: [Vec<f64>; 5] = Default::default();
    for step in 0..=steps {
        ranks.gather(&[])?;
        let (clock, mut last) = (Instant::now(), 0.0);
        let mut lap = || {
            let now = clock.elapsed().as_secs_f64() * 1e3;
            now - std::mem::replace(&mut last, now)
        };
        let dropout = Dropout { rate: config.model.dropout as f32, seed: 0, step: step as u64 };
        let pass = model.forward_train_collecting(&images, dropout)?;
        let loss = multi_task(&pass.logits, &targets)?.total;
        model.backward(&pass, &loss)?;
        let compute = lap();
        ranks.gather(&[])?;
        let wait = lap();
        let statistics: Vec<u8> =
            pass.statistics.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        ranks.gather(&statistics)?;
        let gather = lap();
        with_slice_mut(model.gradient(), |gradient| Ok(ranks.sum(gradient, n)))??;
        let sum = lap();
        optimizer_step(&mut model, &mut optimizer)?;
        let compute = compute + lap();
        if step > 0 {
            let figures = [compute, wait, gather, sum, clock.elapsed().as_secs_f64() * 1e3];
            all.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
        }
    }
    job.leave();
    let [compute_ms, wait_ms, gather_ms, sum_ms, step_ms] = all.map(median);
    let gradient_mb = 4e-6 * model.gradient().elem_count() as f64;
    Ok(RanksFigures {
        ranks: n,
        batch_size: config.data.batch_size,
        threads: config.train.threads,
        steps,
        images_per_s: 1e3 * (n * config.data.batch_size) as f64 / step_ms,
        step_ms,
        compute_ms,
        wait_ms,
        sum_ms,
        gather_ms,
        gradient_mb,
        projection: projection(compute_ms, gradient_mb),
    })
}

fn projection(compute_ms: f64, gradient_mb: f64) -> Vec<Projection> {
    let of = |(link, gb_per_s): (&'static str, f64), machines: usize| {
        let moved = 2.0 * (machines - 1) as f64 / machines as f64 * gradient_mb;
        let sum_ms = moved / gb_per_s;
        Projection { link, gb_per_s, machines, sum_ms, efficiency: compute_ms / (compute_ms + sum_ms) }
    };
    LINKS.into_iter().flat_map(|link| MACHINES.map(|machines| of(link, machines))).collect()
}

pub fn print(figures: &RanksFigures) {
    let RanksFigures { ranks, threads, batch_size, compute_ms, wait_ms, sum_ms, gather_ms, .. } = figures;
    output::say!(
        "{:.2} images/s on {ranks} ranks of {threads} threads, {:.0} ms a step of {ranks} batches of {batch_size}",
        figures.images_per_s,
        figures.step_ms
    );
    output::say!(
        "compute {compute_ms:.0} ms, waiting for others {wait_ms:.0} ms, sum of {:.1} MB {sum_ms:.0} ms, records \
         {gather_ms:.1} ms",
        figures.gradient_mb
    );
    let row = |link: &[Projection]| {
        let cells = link.iter().map(|p| output::percent(p.efficiency));
        std::iter::once(link[0].link.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    let header: Vec<String> = MACHINES.iter().map(|n| format!("{n} machines")).collect();
    let header: Vec<&str> =
        std::iter::once("projected efficiency").chain(header.iter().map(String::as_str)).collect();
    let rows: Vec<Vec<String>> = figures.projection.chunks(MACHINES.len()).map(row).collect();
    output::say!("{}", output::table(&header, &rows));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring's bytes: twice the gradient, less a machine's own part, over the link.
    #[test]
    fn a_projection_moves_twice_the_gradient() {
        let all = projection(1000.0, 110.0);
        assert_eq!(all.len(), LINKS.len() * MACHINES.len());
        let two = all.iter().find(|p| p.link == "10 GbE" && p.machines == 2).unwrap();
        assert!((two.sum_ms - 100.0).abs() < 1e-9 && (two.efficiency - 1.0 / 1.1).abs() < 1e-9, "{two:?}");
        let slower = all.windows(2).filter(|pair| pair[0].link == pair[1].link);
        assert!(slower.into_iter().all(|pair| pair[1].efficiency < pair[0].efficiency));
    }
}
