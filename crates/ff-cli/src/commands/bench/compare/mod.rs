//! `bench compare`: our benches and other people's programs in turns, on the same weights, images and threads, and the
//! ratios of what they come to.
//!
//! Absolute figures drift by tens of per cent from one hour to the next, and a machine that is not idle slows one
//! program more than another. So everybody's process runs once in every round, and only figures of one comparison are
//! held against each other.

mod peers;
mod process;
mod results;
mod turns;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use ff_data::{Augment, Splits};
use ff_model::summary::summarise;
use ff_model::{Architecture, BackboneMode, DeviceSpec};
use ff_train::machine::{Machine, Processor, load_average};
use ff_train::setup::heads;
use ff_train::{Config, ConfigBuilder};
use peers::{Case, Numbers, PEERS, Peer, Work};
use process::{Failure, Runner};
use results::{Compared, Comparison, LeftOut, Version};
use turns::Turns;

use crate::flags::{ComputeFlags, DataFlags, backbone, recorded_path, sample_config, settle};
use crate::output::{self, alert, fixed, note};
use crate::ranges::{self, whole};
use crate::{Context, Ending};

/// Run our benches and other people's programs in turns, and print the ratios.
///
/// PYTHON is asked for torch, torchvision, onnxruntime, openvino, cv2 and albumentations; what it lacks is left out,
/// and it is said why. Then every program runs in a process of its own, one after the other, --rounds times over: the
/// same network with the same weights (ours exports the ONNX file), the same images, as many threads. Logits that are
/// not those of our network are a failure. A program that fails or takes longer than --timeout is shown with its
/// stderr, and costs only itself. Figures are medians over rounds, with the least and the most; the last column is the
/// ratio of medians to the fastest peer, with the least and the most of a round.
///
/// Exit code 1: in some line there is nothing to compare.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    bench compare --peers python3\n  \
    bench compare --peers venv/bin/python --only infer --precision f32,bf16,int8 --rounds 5 --json\n\n\
    tests/peers/README.md in the repository says which versions to install, and how to call a script alone.")]
pub struct CompareArgs {
    /// The Python that has the peers.
    #[arg(long, value_name = "PYTHON", value_parser = recorded_path())]
    peers: PathBuf,
    /// What to measure [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WORKS")]
    only: Option<Vec<Work>>,
    /// How often everybody runs.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>(ranges::COMPARE_ROUNDS))]
    rounds: usize,
    /// What networks compute in [default: f32, and bf16 where the processor multiplies it].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PRECISIONS")]
    precision: Option<Vec<Numbers>>,
    /// Images in a batch, one line each [default: infer 16 and 1, train 32, loader 256].
    #[arg(long, value_delimiter = ',', value_name = "N,...", value_parser = whole::<usize>(ranges::BATCH_SIZE))]
    batch_size: Option<Vec<usize>>,
    /// Batches that a process times, or epochs of the loader [default: infer 15, and 60 in small batches; train 4;
    /// loader 3].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::BENCH_STEPS))]
    steps: Option<usize>,
    /// Threads that compute, of everybody [default: one a CPU].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::THREADS))]
    threads: Option<usize>,
    /// The loader's threads, or the peers' processes for it [default: CPUs - 2, at least 2, at most 8].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::WORKERS))]
    workers: Option<usize>,
    /// Seconds after which a process is ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = whole::<u64>(ranges::TIMEOUT))]
    timeout: u64,
    /// The backbone [default: resnet34].
    #[arg(long, value_parser = backbone())]
    backbone: Option<Architecture>,
    /// Height and width of images: a multiple of 32 from 64 to 512 [default: 224].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::IMAGE_SIZE))]
    image_size: Option<usize>,
    /// The loader's augmentation [default: fast].
    #[arg(long, value_parser = PossibleValuesParser::new(Augment::ALL.map(Augment::name)))]
    augment: Option<String>,
    /// Folder with ff_train.csv, ff_val.csv and ff_test.csv [default: the sample's].
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    splits: Option<PathBuf>,
    /// Folder that the CSVs' `file` column is relative to.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    images: Option<PathBuf>,
}

/// Nobody's speed: what the estimate beforehand takes for it, GFLOP/s a thread.
const ESTIMATED_GFLOPS: f64 = 60.0;
/// The same of loaders, milliseconds of one thread an image.
const ESTIMATED_IMAGE_MS: f64 = 3.0;
/// And of a start, with imports and a model that is read, seconds.
const ESTIMATED_START_S: f64 = 8.0;
/// Of processors, what others may use before the machine counts as busy.
const IDLE_LOAD: f64 = 0.5;

/// What is printed of a module's version by the Python that has it.
const PROBE: &str = "import importlib, sys\n\
                     module = importlib.import_module(sys.argv[1])\n\
                     print(getattr(module, '__version__', 'of no version'))";

pub fn run(args: &CompareArgs, context: &Context, json: bool) -> Result<Ending> {
    // Before anything of ours adds to it.
    let load = load_average();
    let config = settle(builder(args, context, None))?;
    let cases = cases(args, context)?;
    let splits = config.read_splits()?;
    let folder = tempfile::Builder::new().prefix("fairface-compare-").tempdir()?;
    let stop = stop_on_ctrl_c()?;
    let runner = Runner { folder: folder.path(), deadline: Duration::from_secs(args.timeout), stop: &stop };

    let cpus = Machine::look().cpus;
    let idle = load.is_none_or(|load| load + config.train.threads as f64 <= cpus as f64 + IDLE_LOAD);
    let mut comparison = Comparison {
        processor: Processor::look(),
        cpus,
        load_average: load,
        idle,
        python: args.peers.display().to_string(),
        versions: Vec::new(),
        left_out: Vec::new(),
        backbone: config.model.backbone.name(),
        image_size: config.data.image_size,
        threads: config.train.threads,
        workers: config.data.workers,
        augment: config.data.augment.name(),
        rounds: args.rounds,
        interrupted: false,
        cases: Vec::new(),
    };
    say_machine(&comparison);
    let peers = find_peers(args, &cases, &runner, &mut comparison)?;
    let of_case =
        |case: &Case| -> Vec<&Peer> { peers.iter().copied().filter(|peer| peer.takes_part(case)).collect() };
    let plan = cases.into_iter().map(|case| (case, of_case(&case)));
    let plan: Vec<(Case, Vec<&Peer>)> = plan.filter(|(_, peers)| !peers.is_empty()).collect();
    say_plan(&plan, &config, &splits, args.rounds)?;

    let ours = std::env::current_exe()?;
    let turns = Turns { ours, python: &args.peers, config: &config, runner: &runner };
    let works: Vec<Work> = plan.iter().map(|(case, _)| case.work).collect();
    turns.write_files(&works, &splits)?;
    let processes: usize = plan.iter().map(|(_, peers)| args.rounds * (1 + peers.len())).sum();
    let bar = output::progress(processes as u64, "[{bar:30}] {pos}/{len} {msg}, eta {eta}");
    for (case, peers) in plan {
        let (ours, theirs) = turns.measure(&case, &peers, args.rounds, &bar);
        if stop.load(Ordering::Relaxed) {
            comparison.interrupted = true;
            break;
        }
        let compared = Compared::new(case, ours, theirs);
        bar.suspend(|| note!("{}", compared.in_a_line()));
        comparison.cases.push(compared);
    }
    bar.finish_and_clear();

    results::failures(&comparison.cases).iter().for_each(|failure| alert!("failed: {failure}"));
    if json {
        output::print_json(&comparison)?;
    } else {
        output::say!("{}", results::tables(&comparison.cases));
    }
    Ok(match comparison {
        Comparison { interrupted: true, .. } => Ending::Interrupted,
        _ if comparison.cases.iter().any(|compared| compared.best.is_none()) => Ending::Failure,
        _ => Ending::Success,
    })
}

/// Everybody's settings; ours computes in `precision`.
fn builder(args: &CompareArgs, context: &Context, precision: Option<&str>) -> ConfigBuilder {
    let data = DataFlags {
        splits: args.splits.clone(),
        images: args.images.clone(),
        image_size: args.image_size,
        workers: args.workers,
        augment: args.augment.clone(),
        ..DataFlags::default()
    };
    let compute = ComputeFlags {
        device: Some(DeviceSpec::Cpu),
        precision: precision.map(str::to_owned),
        threads: args.threads,
        ..ComputeFlags::default()
    };
    sample_config(context, &data, &compute).set("model.backbone", args.backbone)
}

/// What is compared, in order; precisions that this machine does not have are told as for any bench.
fn cases(args: &CompareArgs, context: &Context) -> Result<Vec<Case>> {
    let usual = [Numbers::F32, Numbers::Bf16].into_iter().filter(|n| n.ours().runs_on_this_cpu());
    let numbers = args.precision.clone().unwrap_or_else(|| usual.collect());
    for numbers in &numbers {
        builder(args, context, Some(numbers.ours().name())).resolve()?;
    }
    let case = |work: Work, numbers: Option<Numbers>| {
        let batch_sizes = args.batch_size.as_deref().unwrap_or(work.batch_sizes());
        let steps = move |batch_size| args.steps.unwrap_or(work.steps(batch_size));
        batch_sizes.iter().map(move |&n| Case { work, numbers, batch_size: n, steps: steps(n) })
    };
    let of_work = |work: Work| -> Vec<Case> {
        match work {
            Work::Loader => case(work, None).collect(),
            _ => numbers.iter().flat_map(|&numbers| case(work, Some(numbers))).collect(),
        }
    };
    let wanted = |work: &Work| args.only.as_ref().is_none_or(|only| only.contains(work));
    let cases = Work::ALL.into_iter().filter(wanted).flat_map(of_work);
    let cases: Vec<_> = cases.filter(|case| PEERS.iter().any(|peer| peer.takes_part(case))).collect();
    if cases.is_empty() {
        let message = "expected a work that some peer does in this precision, found none".to_owned();
        return Err(ff_train::Error::Config { origin: "--precision".into(), message }.into());
    }
    Ok(cases)
}

/// The peers that the cases want and the Python has; who is left out stands in the comparison, with why.
fn find_peers(
    args: &CompareArgs,
    cases: &[Case],
    runner: &Runner,
    comparison: &mut Comparison,
) -> Result<Vec<&'static Peer>> {
    let usage = |message| ff_train::Error::Config { origin: args.peers.display().to_string(), message };
    if let Err(Failure { message, .. }) = runner.output(Command::new(&args.peers).arg("-V")) {
        return Err(usage(format!("expected a Python, found a program that {message}")).into());
    }
    let wanted = PEERS.iter().filter(|peer| cases.iter().any(|case| peer.takes_part(case)));
    let mut missing: Vec<(&str, String)> = Vec::new();
    let mut here = Vec::new();
    for peer in wanted {
        for &module in peer.modules {
            let known = comparison.versions.iter().any(|version| version.module == module)
                || missing.iter().any(|(name, _)| *name == module);
            if known {
                continue;
            }
            note!("looking for {module}");
            match runner.output(Command::new(&args.peers).args(["-c", PROBE, module])) {
                Ok(version) => {
                    let version = version.trim().lines().next_back().unwrap_or_default().to_owned();
                    comparison.versions.push(Version { module, version });
                }
                Err(Failure { message, stderr }) => {
                    let why = stderr.lines().next_back().map_or(message, str::to_owned);
                    missing.push((module, why));
                }
            }
        }
        match missing.iter().find(|(module, _)| peer.modules.contains(module)) {
            None => here.push(peer),
            Some((module, why)) => {
                let why = format!("{module}: {why}");
                note!("without {peer}: {why}");
                comparison.left_out.push(LeftOut { name: peer.name, why });
            }
        }
    }
    if here.is_empty() {
        let whys: Vec<_> = missing.iter().map(|(module, why)| format!("{module}: {why}")).collect();
        let message = format!("expected a Python that has one of the peers, found none: {}", whys.join("; "));
        return Err(usage(message).into());
    }
    Ok(here)
}

fn say_machine(comparison: &Comparison) {
    let Comparison { processor: Processor { name, family_and_model, features }, cpus, threads, .. } =
        comparison;
    let model = family_and_model.map_or(String::new(), |(family, model)| format!(" {family}/{model}"));
    let load = comparison.load_average.map_or("not known".to_owned(), |load| fixed(load, 2));
    note!("machine {name}{model}, {cpus} CPUs, load average {load}; {}", features.join(" "));
    if !comparison.idle {
        tracing::warn!(
            "the machine is not idle: expected a load average that leaves {threads} of {cpus} CPUs, found {load}; \
             ratios are less sure, and figures are worth nothing beside another run's"
        );
    }
}

/// Says what will run, and roughly how long.
fn say_plan(plan: &[(Case, Vec<&Peer>)], config: &Config, splits: &Splits, rounds: usize) -> Result<()> {
    let size = config.data.image_size;
    let shape = [1, size, size];
    let heads = heads(&splits.encoders);
    let mult_adds = summarise(config.model.backbone, &heads, BackboneMode::Trainable, shape)?.mult_adds;
    let gflop = 2e-9 * mult_adds as f64;
    let mut seconds = 0.0;
    for (case, peers) in plan {
        let names = peers.iter().map(|peer| peer.name);
        note!("plan    {}: ours, {}", case.described(), names.collect::<Vec<_>>().join(", "));
        let of_image = match case.work {
            Work::Loader => 1e-3 * ESTIMATED_IMAGE_MS / config.data.workers as f64,
            work => gflop * work.forward_passes() / (ESTIMATED_GFLOPS * config.train.threads as f64),
        };
        let images = match case.work {
            Work::Loader => (1 + case.steps) * splits.train.len(),
            _ => (2 + case.steps) * case.batch_size,
        };
        let process = ESTIMATED_START_S + of_image * images as f64;
        seconds += process * (rounds * (1 + peers.len())) as f64;
    }
    note!("rounds  {rounds}, some {:.0} minutes on an idle machine", (seconds / 60.0).ceil());
    Ok(())
}

fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stop_on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || stop_on_signal.store(true, Ordering::Relaxed))
        .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
