//! `train`: from splits and images to a run folder, or to one a seed.

mod seeds;
// Without the feature `serve` there is no page.
#[cfg_attr(not(feature = "serve"), path = "train/no_watch.rs")]
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use ff_model::Architecture;
use ff_train::optim::schedule::ScheduleKind;
use ff_train::ranks::ReduceDtype;
use ff_train::records::{EpochRecord, StepRecord};
use ff_train::run::RunDir;
use ff_train::seeds::Seeds;
use ff_train::trainer::{Observer, RunStart};
use ff_train::weights::Init;
use ff_train::{Config, ConfigBuilder, Error, Start, TrainingResult};
use indicatif::ProgressBar;

use self::watch::{Watch, WatchFlags};
use super::report::renew;
use crate::faces::{check_faces, described};
use crate::flags::{ComputeFlags, DataFlags, PresetFlag, backbone, recorded_path, settle};
use crate::job::Job;
use crate::output::{self, alert, fixed, grouped, note, percent};
use crate::ranges::{self, number, whole};
use crate::{Context, Ending};

/// Train a model: without arguments, on the bundled sample.
///
/// Writes a run folder (configuration, metrics as JSON lines, CSV and TensorBoard events, report.html, MODEL_CARD.md,
/// checkpoints/last and checkpoints/best) and prints the validation accuracy of every task. Ctrl-C finishes the step,
/// writes checkpoints/last and exits with 130; --resume goes on from there, or after a crash or kill, and gives the
/// same result as a run that never stopped.
///
/// Settings are layered: defaults < --preset < --config FILE < flags. Every flag has a key in the file; the file has
/// many more: class weights, label smoothing, mixup, layer-wise rates, moving average, early stopping.
///
/// Started as several processes by mpirun, mpiexec, srun or torchrun, a program built with the feature mpi, or nccl for
/// a GPU each, shares the batches of every step among them (--accumulate), to the same result as on one.
///
/// --seeds trains the same several times and says how much of every figure is luck of the seed: mean, standard deviation
/// and standard error of the last epoch's validation. Each run has a folder of its own in the one of them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    train                                        the sample, from ImageNet weights\n  \
    train --init model.safetensors --epochs 3    from torchvision's or timm's weights\n  \
    train --preset fairface --device cuda        the full data set on a GPU\n  \
    train --lr 3e-4 --schedule cosine            another recipe; more keys in a --config FILE\n  \
    train --teacher runs/train-001               learn a larger model's answers too\n  \
    train --seeds 5                              five seeds from 42 on, into runs/seeds-001/seed-42 and so on\n  \
    train --serve                                watch it at http://127.0.0.1:8080/runs\n  \
    train --resume --run-dir runs/train-001      go on after Ctrl-C, a crash or a kill\n  \
    mpirun -n 4 fairface train --accumulate 4    four processes of one MPI job, one run")]
pub struct Args {
    /// A named set of defaults.
    #[arg(long, value_enum, default_value_t)]
    preset: PresetFlag,
    /// A TOML file of settings, as a run folder's config.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The run folder [default: the next runs/train-NNN; with --seeds runs/seeds-NNN].
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    run_dir: Option<PathBuf>,
    /// Go on from a checkpoint of --run-dir, with the settings that it was started with and the flags given now; of
    /// several seeds, finish those that are not.
    #[arg(long, requires = "run_dir", conflicts_with_all = ["config", "preset"])]
    resume: bool,
    /// Which checkpoint to go on from: last, best or step-N.
    #[arg(long, value_name = "NAME", requires = "resume", default_value = "last",
          value_parser = NonEmptyStringValueParser::new())]
    checkpoint: String,
    /// Passes over the training split.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(ranges::EPOCHS))]
    epochs: Option<u64>,
    /// Stop after this many steps.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(ranges::STEPS))]
    max_steps: Option<u64>,
    /// The backbone [default: resnet34].
    #[arg(long, value_parser = backbone())]
    backbone: Option<Architecture>,
    /// Seed of initial values, order, augmentation and dropout.
    #[arg(long, value_name = "S", value_parser = whole::<u64>(ranges::SEED))]
    seed: Option<u64>,
    /// Train a run a seed: so many, from --seed on, or these, as 1,7,9.
    #[arg(long, value_name = "N|LIST")]
    seeds: Option<Seeds>,
    /// Initial weights: auto (pretrained where there are any), pretrained, bundled (in this program), random, a NAME of
    /// `weights --list`, or a FILE.
    #[arg(long, value_name = "auto|pretrained|bundled|random|NAME|FILE", value_parser = NonEmptyStringValueParser::new())]
    init: Option<String>,
    /// Train only the projection and the heads.
    #[arg(long)]
    freeze_backbone: bool,
    /// Learn a trained model's answers to the training crops too: a model FILE with labels, or a RUN; how much, says
    /// loss.distill.
    #[arg(long, value_name = "FILE|RUN", value_parser = recorded_path())]
    teacher: Option<PathBuf>,
    /// Batches in a step; ranks share them, so it is a multiple of their number [default: 1].
    #[arg(long, value_name = "N", value_parser = whole::<u64>(ranges::BATCH_SIZE))]
    accumulate: Option<u64>,
    /// What gradients are on their way between ranks: f32, or bf16 for slow networks, half the bytes, where what comes of
    /// a run depends on the number of ranks, which may then not change [default: f32].
    #[arg(long, value_name = "f32|bf16",
          value_parser = PossibleValuesParser::new(ReduceDtype::ALL.map(ReduceDtype::name)))]
    reduce_dtype: Option<String>,
    /// Of several ranks: end all of them when one has not answered the others for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = whole::<u64>(ranges::TIMEOUT))]
    timeout: u64,
    /// Learning rate.
    #[arg(long, value_name = "RATE", allow_hyphen_values = true, value_parser = number(ranges::LEARNING_RATE))]
    lr: Option<f64>,
    /// How the learning rate changes over the run.
    #[arg(long, value_parser = PossibleValuesParser::new(ScheduleKind::ALL.map(ScheduleKind::name)))]
    schedule: Option<String>,
    /// Before the first step, look for faces in up to 1,000 training and validation images, and warn where they do not
    /// look like face crops.
    #[arg(long)]
    check_faces: bool,
    #[command(flatten)]
    watch: WatchFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

/// Images in which `--check-faces` looks for faces: enough for shares to within a point or two.
const CHECKED_IMAGES: usize = 1000;
/// A share of images without a face, or with one out of place, that is worth a warning; FairFace's crops have 5 %.
const SUSPICIOUS: f64 = 0.1;
/// The exit code where a rank did not answer: as sysexits' EX_TEMPFAIL, starting again may help.
const NO_ANSWER: i32 = 75;

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let resumed_seeds = seeds::open(args)?;
    let builder = match (&resumed_seeds, &args.run_dir, args.resume) {
        (Some(dir), ..) => ConfigBuilder::from_config(&dir.settings()?),
        (None, Some(dir), true) => ConfigBuilder::from_config(&RunDir::open(dir)?.config()?),
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
        .set("model.backbone", args.backbone)
        .set("model.init", args.init.as_deref())
        .set("model.freeze_backbone", args.freeze_backbone.then_some(true))
        .set("loss.teacher", args.teacher.as_deref())
        .set("optimizer.lr", args.lr)
        .set("optimizer.accumulate", args.accumulate)
        .set("train.reduce_dtype", args.reduce_dtype.as_deref())
        .set("schedule.kind", args.schedule.as_deref())
        .set("run.dir", args.run_dir.as_deref());
    let mut config = settle(builder)?;
    // A resumed run keeps the size that was found.
    if !args.resume {
        args.data.find_batch_size(&mut config)?;
    }

    let folder = config.run.dir.clone();
    let mut job = Job::join(config.train.device, Duration::from_secs(args.timeout), move |stalled| {
        let folder = folder.map_or("the run folder".into(), |dir| dir.to_string_lossy().into_owned());
        alert!("error: {stalled}; start all of them again with --resume --run-dir {folder}");
        std::process::exit(NO_ANSWER);
    })?;
    let n_ranks = job.ranks().size();
    if n_ranks > 1 && (args.seeds.is_some() || resumed_seeds.is_some()) {
        let message = format!("expected one seed where ranks share a run, found {n_ranks} ranks");
        return Err(Error::Config { origin: "--seeds".to_owned(), message }.into());
    }

    let stop = stop_on_ctrl_c()?;
    if args.check_faces {
        warn_of_faces(&config)?;
    }
    let watch = match job.ranks().rank() {
        0 => args.watch.start(&runs_folder(&config))?,
        _ => None,
    };
    if let Some(dir) = resumed_seeds.map_or_else(|| seeds::create(args, &config), |dir| Ok(Some(dir)))? {
        return seeds::train(&config, &dir, &stop, Display::watched(watch), context, json);
    }
    let start = if args.resume { Start::Resume(args.checkpoint.clone()) } else { Start::Fresh };
    let mut display = Display::watched(watch);
    let outcome = ff_train::train_on_ranks(job.ranks(), &config, start, &mut display, &stop)?;
    say(&outcome, &config, json)?;
    job.leave()?;
    Ok(if outcome.interrupted { interrupted(context, &outcome.run_dir) } else { Ending::Success })
}

/// The folder that the run's is in.
fn runs_folder(config: &Config) -> PathBuf {
    let parent = config.run.dir.as_deref().map_or(Some(Path::new("runs")), Path::parent);
    match parent {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What Ctrl-C sets, the first time.
pub(super) fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stop_on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if stop_on_signal.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: at once
        }
        if output::rank() == 0 {
            alert!("\nstopping after this step; Ctrl-C again to stop at once, without a checkpoint");
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// Says what a run came to.
fn say(outcome: &TrainingResult, config: &Config, json: bool) -> Result<()> {
    if json {
        output::print_json(outcome)?;
    } else {
        output::say!(
            "{} steps, {} epochs at {:.1} images/s",
            outcome.steps,
            outcome.epochs,
            outcome.images_per_s
        );
        for (of, figures) in [("val", &outcome.val), ("val, moving average", &outcome.ema)] {
            for (task, metrics) in figures.iter().flat_map(|figures| figures.iter()) {
                output::say!("{of} {task:<6} accuracy {}", percent(metrics.accuracy));
            }
        }
        if outcome.stopped_early {
            output::say!("stopped early: no better epoch for {} epochs", config.train.patience.unwrap_or(0));
        }
        output::say!("run folder {}", outcome.run_dir.display());
    }
    Ok(())
}

/// Says what a detector finds in the images, loudly where they are hardly crops of faces.
fn warn_of_faces(config: &Config) -> Result<()> {
    let splits = config.read_splits()?;
    let data = &config.data;
    let of = [&splits.train, &splits.val];
    let check = check_faces(&of, &data.images, data.rules(), data.workers, CHECKED_IMAGES)?;
    let said = described(&check);
    let bad = [check.no_face.len(), check.several_faces.len(), check.badly_placed.len()];
    if bad.iter().any(|&n| check.share(n) > SUSPICIOUS) {
        tracing::warn!("faces: {said}: these do not look like face crops; `crop` makes such of photos");
    } else {
        note!("faces   {said}");
    }
    Ok(())
}

/// Says how to go on.
fn interrupted(context: &Context, run_dir: &Path) -> Ending {
    if output::rank() > 0 {
        return Ending::Interrupted;
    }
    alert!("stopped; go on with: {} train --resume --run-dir {}", context.program, run_dir.display());
    Ending::Interrupted
}

/// Shows a run: a bar on a terminal, lines elsewhere, and its page, which every epoch renews.
#[derive(Default)]
pub(super) struct Display {
    steps: Option<ProgressBar>,
    evaluation: Option<ProgressBar>,
    run_dir: Option<RunDir>,
    watch: Option<Watch>,
}

impl Display {
    fn watched(watch: Option<Watch>) -> Self {
        Self { watch, ..Self::default() }
    }
}

const STEP_BAR: &str = "{prefix} [{bar:30}] {pos}/{len} {msg} eta {eta}";
const EVALUATION_BAR: &str = "validating [{bar:30}] {pos}/{len}";
/// Lines, where there is no bar, come about this often.
const SECONDS_BETWEEN_LINES: f64 = 10.0;

impl Observer for Display {
    fn started(&mut self, found: &RunStart) {
        let RunStart { machine, config, encoders, .. } = found;
        let (total, trainable) = found.parameters;
        let classes: Vec<_> = encoders.iter().map(|(task, e)| format!("{task} {}", e.n_classes())).collect();
        note!(
            "found   {} CPUs, {:.1} of {:.1} GiB memory free, {}-{}",
            machine.cpus,
            machine.free_memory_mib as f64 / 1024.0,
            machine.memory_mib as f64 / 1024.0,
            machine.arch,
            machine.os
        );
        if let Some(gpu) = &machine.gpu {
            note!("        {gpu}");
        }
        note!(
            "        {} training and {} validation rows in {}; classes: {}",
            grouped(found.rows.0 as u64),
            grouped(found.rows.1 as u64),
            config.data.splits.display(),
            classes.join(", ")
        );
        note!(
            "chose   device {}, engine {}, {}, {} threads, {} loader workers, batch {}, augmentation {}",
            config.train.device,
            config.train.engine.name(),
            config.train.precision,
            config.train.threads,
            config.data.workers,
            config.data.batch_size,
            config.data.augment.name()
        );
        note!(
            "        {} parameters, {} trainable; {:?}, lr {} {}, seed {}",
            grouped(total as u64),
            grouped(trainable as u64),
            config.optimizer.kind,
            config.optimizer.lr,
            config.schedule.kind.name(),
            config.train.seed
        );
        match found.init {
            Some(Init::File { path, set_aside }) => {
                note!("weights {}", path.display());
                if !set_aside.is_empty() {
                    note!("        set aside, as the backbone has no use for it: {}", set_aside.join(", "));
                }
            }
            Some(init @ Init::Bundled) => note!("weights {init}"),
            Some(Init::Random) => note!("weights random, as asked"),
            Some(Init::RandomForWant(places)) => {
                let backbone = config.model.backbone;
                tracing::warn!(
                    "no pretrained weights of {backbone} in {places}: STARTING FROM RANDOM WEIGHTS"
                );
                tracing::warn!("accuracy will be near chance; {}", ff_train::HOW_TO_GET_WEIGHTS);
            }
            None => note!("weights resumed at step {}", found.position.step),
        }
        for change in found.changes {
            tracing::warn!("differs from the run so far: {change}");
        }
        note!(
            "run     {}: {} steps, {} an epoch",
            found.run_dir.path().display(),
            found.total_steps,
            found.steps_per_epoch
        );
        if let Some(watch) = &self.watch {
            note!("watch   {}", watch.url(found.run_dir.path()));
        }
        let bar = output::progress(found.total_steps, STEP_BAR);
        bar.set_position(found.position.step);
        bar.reset_eta();
        self.run_dir = Some(found.run_dir.clone());
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

    fn skipped(&mut self, step: &StepRecord, files: &[String]) {
        let StepRecord { step, loss, grad_norm, .. } = step;
        let files = files.join(", ");
        tracing::warn!("step {step} skipped: loss {loss}, gradient's norm {grad_norm}; batch: {files}");
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
        // A run does not die of a page that nobody may read.
        if let Some(Err(e)) = self.run_dir.as_ref().map(renew) {
            tracing::warn!("no report: {e}");
        }
        let line = format!(
            "epoch {}: train loss {}, {:.1} images/s, {:.0} s training ({:.1} % waiting), {:.0} s validation{}",
            epoch.epoch,
            epoch.train_loss.map_or("none".to_owned(), |loss| format!("{loss:.3}")),
            epoch.images_per_s,
            epoch.seconds.training(),
            100.0 * epoch.seconds.loader / epoch.seconds.training().max(1e-9),
            epoch.seconds.evaluation,
            if epoch.best { "; the best so far" } else { "" }
        );
        let text = format!("{line}\n{}", validation_table(epoch));
        match &self.steps {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| alert!("{text}")),
            _ => text.lines().for_each(|line| tracing::info!("{line}")),
        }
    }
}

/// A row a task; the moving average's accuracy beside the weights' where there is one.
fn validation_table(epoch: &EpochRecord) -> String {
    let header = ["validation", "accuracy", "one-off", "balanced", "NLL", "average's accuracy"];
    let columns = if epoch.ema.is_some() { 6 } else { 5 };
    let rows = epoch.val.iter().map(|(task, m)| {
        let one_off = m.one_off.map_or(String::new(), percent);
        let average = epoch.ema.as_ref().map_or(String::new(), |ema| percent(ema[task].accuracy));
        let nll = fixed(m.nll, 3);
        let mut row =
            vec![task.to_string(), percent(m.accuracy), one_off, percent(m.balanced_accuracy), nll, average];
        row.truncate(columns);
        row
    });
    output::table(&header[..columns], &rows.collect::<Vec<_>>())
}
