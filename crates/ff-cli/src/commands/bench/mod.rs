//! `bench`: speed and peak memory of one stage, and stages beside other people's programs.

mod compare;
mod loader;
mod network;
mod projection;
mod ranks;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Subcommand, ValueEnum};
use ff_model::summary::summarise;
use ff_model::{Architecture, BackboneMode, DeviceSpec};
use ff_train::machine::{peak_rss_mib, peak_tflops};
use ff_train::ranks::ReduceDtype;
use ff_train::setup::heads;
use ff_train::trainer::batch_size::BatchSize;
use network::{Parts, Timing};
use serde::Serialize;

use crate::flags::{ComputeFlags, DataFlags, backbone, sample_config, settle};
use crate::ranges::{self, number, whole};
use crate::{Context, Ending, output};

/// Measure one stage: images a second, milliseconds a batch, peak memory.
///
/// The network is fed synthetic images, and figures are medians over --steps batches after one to warm up; on CUDA over
/// --steps blocks of 20 batches after 20, the GPU waited for between blocks. The loader reads the sample, and its
/// figures are medians over --steps epochs, each beside the decoder alone. GFLOP/s are direct-convolution equivalents,
/// three forward passes a training step; a GPU's peak is its data sheet's for dense products in that precision. ranks is
/// started as training is: by mpirun, or alone for what one rank does. It takes --steps steps as they are trained, the
/// gradients' sum beside the backward pass, and as many that do one thing after the other.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    several: Option<Several>,
    /// Which stage.
    #[arg(value_enum, required = true)]
    stage: Option<Stage>,
    /// Batches to measure, or blocks of them on CUDA.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<usize>(ranges::BENCH_STEPS))]
    steps: usize,
    /// Training: real batches from the loader, as a run takes them, in place of synthetic ones.
    #[arg(long)]
    with_loader: bool,
    /// ranks: what gradients are on their way [default: f32].
    #[arg(long, value_name = "f32|bf16",
          value_parser = PossibleValuesParser::new(ReduceDtype::ALL.map(ReduceDtype::name)))]
    reduce_dtype: Option<String>,
    /// ranks: what a GPU is taken to compute in a step, for the projection: measure it with `bench train` on one.
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = number(ranges::MILLISECONDS))]
    gpu_ms: f64,
    /// The backbone [default: resnet34].
    #[arg(long, value_parser = backbone())]
    backbone: Option<Architecture>,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

/// Stages that other processes run.
#[derive(Debug, Subcommand)]
enum Several {
    Compare(compare::CompareArgs),
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
    /// A training step that ranks share, with a projection for other networks; batches of 32.
    Ranks,
}

#[derive(Debug, Serialize)]
struct Figures {
    stage: Stage,
    images_per_s: f64,
    ms_per_batch: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflop_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<GpuFigures>,
    /// Medians of a training step's parts, milliseconds; not known on a GPU, or with a loader beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts_ms: Option<Parts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loader: Option<loader::Breakdown>,
    peak_rss_mib: Option<u64>,
    batch_size: usize,
    steps: usize,
    threads: usize,
    workers: usize,
    with_loader: bool,
    engine: &'static str,
    precision: &'static str,
    device: String,
    augment: &'static str,
}

/// What a GPU gives and takes.
#[derive(Debug, Serialize)]
struct GpuFigures {
    name: String,
    /// Memory in use on the whole GPU when all was measured, MiB.
    memory_mib: usize,
    /// Of [`peak_tflops`]; null where that is not known.
    peak_tflop_per_s: Option<f64>,
    share_of_peak: Option<f64>,
}

impl Stage {
    /// Images in a batch unless asked otherwise: the sizes that the peers' benches have.
    const fn batch_size(self) -> BatchSize {
        match self {
            Self::Loader => BatchSize::Images(256),
            Self::Train | Self::Ranks => BatchSize::Images(32),
            Self::Infer => BatchSize::Images(16),
        }
    }

    /// What a batch costs in forward passes; nothing that counts in the loader.
    const fn forward_passes(self) -> Option<f64> {
        match self {
            Self::Loader => None,
            Self::Train | Self::Ranks => Some(3.0),
            Self::Infer => Some(1.0),
        }
    }
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    if let Some(Several::Compare(args)) = &args.several {
        return compare::run(args, context, json);
    }
    let stage = args.stage.expect("it is required where there is no command");
    let data =
        DataFlags { batch_size: args.data.batch_size.or(Some(stage.batch_size())), ..args.data.clone() };
    let builder = sample_config(context, &data, &args.compute)
        .set("model.backbone", args.backbone)
        .set("train.reduce_dtype", args.reduce_dtype.as_deref());
    let mut config = settle(builder)?;
    data.find_batch_size(&mut config)?;
    let splits = config.read_splits()?;
    let (steps, batch_size) = (args.steps, config.data.batch_size);
    let heads = heads(&splits.encoders);

    let (mut parts, mut breakdown) = (None, None);
    let Timing { ms, gpu } = match stage {
        Stage::Loader => {
            let (ms, found) = loader::run(&config, splits, steps)?;
            breakdown = Some(found);
            Timing { ms, gpu: None }
        }
        Stage::Train if args.with_loader => network::train_with_loader(&config, splits, steps)?,
        Stage::Train if config.train.device != DeviceSpec::Cpu => {
            network::train_on_gpu(&config, &splits.encoders, steps)?
        }
        Stage::Train => {
            let all = network::train(&config, &splits.encoders, steps)?;
            let part = |f: fn(&Parts) -> f64| median(all.iter().map(f).collect());
            let (forward, backward) = (part(|p| p.forward), part(|p| p.backward));
            parts = Some(Parts { forward, backward, optimizer: part(|p| p.optimizer) });
            Timing { ms: all.iter().map(Parts::sum).collect(), gpu: None }
        }
        Stage::Infer => network::infer(&config, &splits.encoders, steps)?,
        Stage::Ranks => {
            let figures = ranks::run(&config, &splits.encoders, steps, args.gpu_ms)?;
            if json {
                output::print_json(&figures)?;
            } else {
                ranks::print(&figures);
            }
            return Ok(Ending::Success);
        }
    };
    let ms_per_batch = median(ms);
    let size = config.data.image_size;
    let shape = [batch_size, size, size];
    let mult_adds = summarise(config.model.backbone, &heads, BackboneMode::Trainable, shape)?.mult_adds;
    let gflop = stage.forward_passes().map(|passes| 2e-9 * passes * mult_adds as f64);
    let gflop_per_s = gflop.map(|gflop| 1e3 * gflop / ms_per_batch);
    let gpu = gpu.map(|gpu| {
        let peak = peak_tflops(&gpu.name, config.train.precision);
        GpuFigures {
            name: gpu.name,
            memory_mib: (gpu.total - gpu.free) >> 20,
            peak_tflop_per_s: peak,
            share_of_peak: gflop_per_s.zip(peak).map(|(gflop_per_s, peak)| 1e-3 * gflop_per_s / peak),
        }
    });
    let figures = Figures {
        stage,
        images_per_s: 1e3 * batch_size as f64 / ms_per_batch,
        ms_per_batch,
        gflop_per_s,
        gpu,
        parts_ms: parts,
        loader: breakdown,
        peak_rss_mib: peak_rss_mib(),
        batch_size,
        steps,
        threads: config.train.threads,
        workers: config.data.workers,
        with_loader: args.with_loader,
        engine: config.train.engine.name(),
        precision: config.train.precision.name(),
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

fn print(figures: &Figures) {
    output::say!(
        "{:.2} images/s, {:.1} ms a batch of {}",
        figures.images_per_s,
        figures.ms_per_batch,
        figures.batch_size
    );
    if let Some(gflop_per_s) = figures.gflop_per_s {
        output::say!("{gflop_per_s:.1} GFLOP/s (direct-convolution equivalent)");
    }
    if let Some(GpuFigures { name, memory_mib, peak_tflop_per_s, share_of_peak }) = &figures.gpu {
        let share = match (share_of_peak, peak_tflop_per_s) {
            (Some(share), Some(peak)) => format!("{:.1} % of its peak of {peak} TFLOP/s", 100.0 * share),
            _ => "its peak is unknown".to_owned(),
        };
        output::say!("{name} in {}: {share}; {memory_mib} MiB of its memory in use", figures.precision);
    }
    if let Some(Parts { forward, backward, optimizer }) = figures.parts_ms {
        output::say!("forward {forward:.0} ms, backward {backward:.0} ms, optimizer {optimizer:.1} ms");
    }
    if let Some(breakdown) = &figures.loader {
        loader::print(breakdown);
    }
    if let Some(peak) = figures.peak_rss_mib {
        output::say!("peak memory {peak} MiB");
    }
}
