//! `train`: from splits and images to a run folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use ff_data::Task;
use ff_train::metrics::TaskMetrics;
use ff_train::records::{EpochRecord, Found, Observer, StepRecord};
use ff_train::run_dir::RunDir;
use ff_train::setup::Init;
use ff_train::{ConfigBuilder, Start};
use indicatif::ProgressBar;

use crate::flags::{ComputeFlags, DataFlags, PresetFlag, settle};
use crate::output::{self, grouped, percent};
use crate::{Context, Ending};

/// Train a model: without arguments, on the bundled sample.
///
/// Writes a run folder (config.toml, run.json, metrics.jsonl, metrics.csv, checkpoints/last, checkpoints/best) and
/// prints the validation accuracy of every task. Ctrl-C finishes the step, writes checkpoints/last and exits with
/// 130; --resume goes on from there and gives the same result as a run that was never stopped.
///
/// Settings are layered: defaults < --preset < --config FILE < flags. Every flag has a key in the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    train                                        the sample, from pretrained weights if they are at hand\n  \
    train --init model.safetensors --epochs 3    from torchvision's or timm's ResNet-34 weights\n  \
    train --preset fairface --device cuda        the full data set on a GPU\n  \
    train --resume --run-dir runs/train-001      go on after Ctrl-C")]
pub struct Args {
    /// A named set of defaults.
    #[arg(long, value_enum, default_value_t)]
    preset: PresetFlag,
    /// A TOML file of settings, as a run folder's config.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The run folder [default: the next runs/train-NNN].
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on from checkpoints/last of --run-dir, with the settings that it was started with and the flags given now.
    #[arg(long, requires = "run_dir", conflicts_with_all = ["config", "preset"])]
    resume: bool,
    /// Passes over the training split.
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Stop after this many steps.
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Seed of initial values, order, augmentation and dropout.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Type of activations.
    #[arg(long, value_parser = PossibleValuesParser::new(["f32", "bf16"]))]
    precision: Option<String>,
    /// Initial weights: auto (pretrained if at hand), pretrained, random, or a safetensors FILE.
    #[arg(long, value_name = "auto|pretrained|random|FILE")]
    init: Option<String>,
    /// Train only the projection and the heads.
    #[arg(long)]
    freeze_backbone: bool,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let builder = match (&args.run_dir, args.resume) {
        (Some(dir), true) => ConfigBuilder::from_config(&RunDir::open(dir)?.config()?),
        _ => ConfigBuilder::new(args.preset.into(), &context.root),
    };
    let builder = match &args.config {
        Some(file) => builder.file(file)?,
        None => builder,
    };
    let builder = args.compute.over(args.data.over(builder));
    let builder = builder
        .set("train.epochs", args.epochs)
        .set("train.max_steps", args.max_steps)
        .set("train.seed", args.seed)
        .set("train.precision", args.precision.as_deref())
        .set("model.init", args.init.as_deref())
        .set("model.freeze_backbone", args.freeze_backbone.then_some(true))
        .set("run.dir", args.run_dir.as_deref());
    let config = settle(builder)?;

    let stop = Arc::new(AtomicBool::new(false));
    let stop_on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if stop_on_signal.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: at once
        }
        eprintln!("\nstopping after this step; Ctrl-C again to stop at once, without a checkpoint");
    })
    .context("cannot listen for Ctrl-C")?;

    let start = if args.resume { Start::Resume } else { Start::Fresh };
    let outcome = ff_train::train(&config, start, &mut Display::default(), &stop)?;
    if json {
        output::print_json(&outcome)?;
    } else {
        println!(
            "{} steps, {} epochs at {:.1} images/s",
            outcome.steps, outcome.epochs, outcome.images_per_s
        );
        for (task, metrics) in outcome.val.iter().flat_map(|val| val.iter()) {
            println!("val {task:<6} accuracy {}", percent(metrics.accuracy));
        }
        println!("run folder {}", outcome.run_dir.display());
    }
    if outcome.interrupted {
        eprintln!(
            "stopped; go on with: {} train --resume --run-dir {}",
            context.program,
            outcome.run_dir.display()
        );
        return Ok(Ending::Interrupted);
    }
    Ok(Ending::Success)
}

/// Shows a run: a bar on a terminal, lines elsewhere.
#[derive(Default)]
struct Display {
    steps: Option<ProgressBar>,
    evaluation: Option<ProgressBar>,
}

const STEP_BAR: &str = "{prefix} [{bar:30}] {pos}/{len} {msg} eta {eta}";
const EVALUATION_BAR: &str = "validating [{bar:30}] {pos}/{len}";
/// Lines, where there is no bar, come about this often.
const SECONDS_BETWEEN_LINES: f64 = 10.0;

impl Observer for Display {
    fn started(&mut self, found: &Found) {
        let Found { machine, config, encoders, .. } = found;
        let (total, trainable) = found.parameters;
        let classes: Vec<_> = encoders.iter().map(|(task, e)| format!("{task} {}", e.n_classes())).collect();
        eprintln!(
            "found   {} CPUs, {:.1} of {:.1} GiB memory free, {}-{}",
            machine.cpus,
            machine.free_memory_mib as f64 / 1024.0,
            machine.memory_mib as f64 / 1024.0,
            machine.arch,
            machine.os
        );
        eprintln!(
            "        {} training and {} validation rows in {}; classes: {}",
            grouped(found.rows.0 as u64),
            grouped(found.rows.1 as u64),
            config.data.splits.display(),
            classes.join(", ")
        );
        eprintln!(
            "chose   device {}, engine {}, {} threads, {} loader workers, batch {}, augmentation {}",
            config.train.device,
            config.train.engine.name(),
            config.train.threads,
            config.data.workers,
            config.data.batch_size,
            config.data.augment.name()
        );
        eprintln!(
            "        {} parameters, {} trainable; {:?}, lr {}, seed {}",
            grouped(total as u64),
            grouped(trainable as u64),
            config.optimizer.kind,
            config.optimizer.lr,
            config.train.seed
        );
        match found.init {
            Some(Init::File { path, set_aside }) => {
                eprintln!("weights {}", path.display());
                if !set_aside.is_empty() {
                    eprintln!(
                        "        set aside, as the backbone has no use for it: {}",
                        set_aside.join(", ")
                    );
                }
            }
            Some(Init::Random) => eprintln!("weights random, as asked"),
            Some(Init::RandomForWant(places)) => {
                tracing::warn!("no pretrained weights in {places}: STARTING FROM RANDOM WEIGHTS");
                tracing::warn!("accuracy will be near chance; {}", ff_train::setup::HOW_TO_GET_WEIGHTS);
            }
            None => eprintln!("weights resumed at step {}", found.position.step),
        }
        eprintln!(
            "run     {}: {} steps, {} an epoch",
            found.run_dir.path().display(),
            found.total_steps,
            found.steps_per_epoch
        );
        let bar = output::progress(found.total_steps, STEP_BAR);
        bar.set_position(found.position.step);
        bar.reset_eta();
        self.steps = Some(bar);
        self.evaluation = Some(output::progress(found.rows.1 as u64, EVALUATION_BAR));
    }

    fn step(&mut self, step: &StepRecord) {
        let losses: Vec<_> = step.losses.iter().map(|(task, loss)| format!("{task} {loss:.3}")).collect();
        let message = format!(
            "loss {:.3} ({}) {:.1} images/s",
            step.loss,
            losses.join(", "),
            step.images as f64 / step.seconds.max(1e-9)
        );
        let Some(bar) = &self.steps else { return };
        bar.set_prefix(format!("epoch {}", step.epoch));
        bar.set_position(step.step);
        bar.set_message(message.clone());
        let every = (SECONDS_BETWEEN_LINES / step.seconds.max(1e-9)).ceil() as u64;
        if bar.is_hidden() && (step.step == 1 || step.step.is_multiple_of(every.max(1))) {
            tracing::info!("epoch {} step {}: {message}", step.epoch, step.step);
        }
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.evaluation {
            bar.set_position(done as u64);
            if done == total {
                bar.reset();
            }
        }
    }

    fn epoch(&mut self, epoch: &EpochRecord) {
        let accuracy = |m: &TaskMetrics| percent(m.accuracy);
        let val: Vec<_> =
            Task::ALL.iter().map(|&task| format!("{task} {}", accuracy(&epoch.val[task]))).collect();
        let line = format!(
            "epoch {}: train loss {:.3}, val accuracy {}{}, {:.1} images/s, {:.0} s training ({:.1} % waiting), {:.0} s validation",
            epoch.epoch,
            epoch.train_loss,
            val.join(", "),
            if epoch.best { " (best)" } else { "" },
            epoch.images_per_s,
            epoch.seconds.training(),
            100.0 * epoch.seconds.loader / epoch.seconds.training().max(1e-9),
            epoch.seconds.evaluation
        );
        match &self.steps {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| eprintln!("{line}")),
            _ => tracing::info!("{line}"),
        }
    }
}
