//! `bench`: speed and peak memory of one stage.

mod loader;

use std::time::Instant;

use anyhow::Result;
use candle_core::Tensor;
use clap::ValueEnum;
use ff_data::{Encoders, PerTask, Splits};
use ff_model::summary::summarise;
use ff_model::{BackboneMode, Dropout, FaceModel};
use ff_train::Config;
use ff_train::checkpoint::heads;
use ff_train::losses::multi_task;
use ff_train::machine::peak_rss_mib;
use ff_train::optimizer::Optimizer;
use ff_train::setup::build_model;
use ff_train::trainer::optimizer_step;
use serde::Serialize;

use crate::flags::{ComputeFlags, DataFlags, sample_config, settle};
use crate::{Context, Ending, output};

/// Measure one stage: images a second, milliseconds a batch, peak memory.
///
/// The network is fed synthetic images; the loader reads the sample. Figures are medians over --steps batches after
/// one to warm up (the loader's over --steps epochs of the sample, each beside the decoder alone). GFLOP/s are direct-convolution equivalents, three forward passes a training step.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which stage.
    #[arg(value_enum)]
    stage: Stage,
    /// Batches to measure.
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    /// Reading, decoding, augmenting; batches of 256.
    Loader,
    /// Forward, backward and optimiser; batches of 32.
    Train,
    /// Forward in evaluation mode; batches of 16.
    Infer,
}

#[derive(Debug, Serialize)]
struct Figures {
    stage: Stage,
    images_per_s: f64,
    ms_per_batch: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflop_per_s: Option<f64>,
    /// Medians of a training step's parts, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts_ms: Option<Parts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loader: Option<loader::Breakdown>,
    peak_rss_mib: Option<u64>,
    batch_size: usize,
    steps: usize,
    threads: usize,
    workers: usize,
    engine: &'static str,
    device: String,
    augment: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Parts {
    forward: f64,
    backward: f64,
    optimizer: f64,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let batch_size = match args.stage {
        Stage::Loader => 256,
        Stage::Train => 32,
        Stage::Infer => 16,
    };
    let data = DataFlags { batch_size: args.data.batch_size.or(Some(batch_size)), ..args.data.clone() };
    let config = settle(sample_config(context, &data, &args.compute))?;
    let splits = Splits::read(&config.data.splits)?;
    let steps = args.steps.max(1);

    let (mut parts, mut breakdown) = (None, None);
    let times = match args.stage {
        Stage::Loader => {
            let (times, found) = loader::run(&config, splits, steps)?;
            breakdown = Some(found);
            times
        }
        Stage::Train => {
            let all = train(&config, &splits.encoders, steps)?;
            let part = |f: fn(&Parts) -> f64| median(all.iter().map(f).collect());
            parts = Some(Parts {
                forward: part(|p| p.forward),
                backward: part(|p| p.backward),
                optimizer: part(|p| p.optimizer),
            });
            all.iter().map(|p| p.forward + p.backward + p.optimizer).collect()
        }
        Stage::Infer => infer(&config, &splits.encoders, steps)?,
    };
    let ms_per_batch = median(times);
    let batch_size = config.data.batch_size;
    let passes = [0.0, 3.0, 1.0][args.stage as usize];
    let mult_adds = summarise(
        &heads(&Splits::read(&config.data.splits)?.encoders),
        BackboneMode::Trainable,
        [batch_size, 224, 224],
    )?
    .mult_adds;
    let gflop = 2e-9 * passes * mult_adds as f64;
    let figures = Figures {
        stage: args.stage,
        images_per_s: 1e3 * batch_size as f64 / ms_per_batch,
        ms_per_batch,
        gflop_per_s: (passes > 0.0).then(|| 1e3 * gflop / ms_per_batch),
        parts_ms: parts,
        loader: breakdown,
        peak_rss_mib: peak_rss_mib(),
        batch_size,
        steps,
        threads: config.train.threads,
        workers: config.data.workers,
        engine: config.train.engine.name(),
        device: config.train.device.to_string(),
        augment: config.data.augment.name(),
    };
    if json {
        output::print_json(&figures)?;
    } else {
        print(&figures);
    }
    Ok(Ending::Success)
}

fn train(config: &Config, encoders: &Encoders, steps: usize) -> Result<Vec<Parts>> {
    let mut model = build_model(config, encoders)?;
    let mut optimizer = Optimizer::new(config.optimizer.clone(), model.parameters())?;
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

fn infer(config: &Config, encoders: &Encoders, steps: usize) -> Result<Vec<f64>> {
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

fn print(figures: &Figures) {
    println!(
        "{:.2} images/s, {:.1} ms a batch of {}",
        figures.images_per_s, figures.ms_per_batch, figures.batch_size
    );
    if let Some(gflop_per_s) = figures.gflop_per_s {
        println!("{gflop_per_s:.1} GFLOP/s (direct-convolution equivalent)");
    }
    if let Some(Parts { forward, backward, optimizer }) = figures.parts_ms {
        println!("forward {forward:.0} ms, backward {backward:.0} ms, optimizer {optimizer:.1} ms");
    }
    if let Some(breakdown) = &figures.loader {
        loader::print(breakdown);
    }
    if let Some(peak) = figures.peak_rss_mib {
        println!("peak memory {peak} MiB");
    }
}
