//! `bench train` and `bench infer`: the network on synthetic images, with no loader beside it.

use std::time::Instant;

use anyhow::Result;
use candle_core::Tensor;
use ff_data::{Encoders, PerTask};
use ff_model::{Dropout, FaceModel};
use ff_train::Config;
use ff_train::losses::multi_task;
use ff_train::optimizer::Optimizer;
use ff_train::setup::build_model;
use ff_train::trainer::optimizer_step;
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
    let mut model = build_model(config, encoders)?;
    let mut optimizer = Optimizer::for_model(config.optimizer.clone(), &model)?;
    let images = synthetic(config, &model)?;
    let classes: PerTask<usize> = encoders.n_classes();
    let n = config.data.batch_size;
    let targets = classes
        .values()
        .map(|&c| Tensor::new((0..n).map(|i| (i % c) as u32).collect::<Vec<_>>(), model.device()));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
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

/// Milliseconds of `steps` forward passes in evaluation mode, after one to warm up.
pub fn infer(config: &Config, encoders: &Encoders, steps: usize) -> Result<Vec<f64>> {
    let mut model = build_model(config, encoders)?;
    let images = synthetic(config, &model)?;
    let mut times = Vec::new();
    for _ in 0..=steps {
        let clock = Instant::now();
        for logits in model.predict(&images)?.logits {
            logits.to_vec2::<f32>()?;
        }
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times.split_off(1))
}

/// Images (B,3,224,224) with the spread of normalised ones; the speed does not depend on what they show.
fn synthetic(config: &Config, model: &FaceModel) -> Result<Tensor> {
    let n = config.data.batch_size * 3 * 224 * 224;
    let values: Vec<f32> = (0..n).map(|i| (i % 251) as f32 / 62.5 - 2.0).collect();
    Ok(Tensor::from_vec(values, (config.data.batch_size, 3, 224, 224), model.device())?)
}
