//! `evaluate`: how good a trained model is, over all and by group.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use ff_data::{Manifest, Split, Task};
use ff_train::ConfigBuilder;
use ff_train::checkpoint::Checkpoint;
use ff_train::evaluation::{Evaluation, predict};
use ff_train::run_dir::{RunDir, Which};
use ff_train::setup::{build_model, eval_loader};

use crate::Ending;
use crate::flags::{ComputeFlags, settle};
use crate::output::{self, percent};

/// Evaluate a run's checkpoint: metrics for every task, and for every group.
///
/// Every sample counts once; a partial last batch is not dropped. Groups are made by the true labels.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    evaluate --run runs/train-001                                   best checkpoint, validation split\n  \
    evaluate --run runs/train-001 --split test --group-by race,gender\n  \
    evaluate --run runs/train-001 --csv mine.csv --images photos    any labelled CSV")]
pub struct Args {
    /// The run folder.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which checkpoint.
    #[arg(long, value_enum, default_value_t)]
    checkpoint: CheckpointFlag,
    /// Which split of the run's data.
    #[arg(long, value_enum, default_value_t)]
    split: SplitFlag,
    /// A CSV of one's own, with the columns file, age, gender, race.
    #[arg(long, value_name = "FILE", conflicts_with = "split")]
    csv: Option<PathBuf>,
    /// The folder that the CSV's files are relative to [default: the run's].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Attributes to group by.
    #[arg(long, value_delimiter = ',', value_name = "race,gender,age")]
    group_by: Vec<Task>,
    /// Images in a batch.
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Threads that decode.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    #[command(flatten)]
    compute: ComputeFlags,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CheckpointFlag {
    /// The best mean validation accuracy.
    #[default]
    Best,
    /// The newest.
    Last,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum SplitFlag {
    /// ff_train.csv
    Train,
    /// ff_val.csv
    #[default]
    Val,
    /// ff_test.csv
    Test,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let run_dir = RunDir::open(&args.run)?;
    let builder = args.compute.over(ConfigBuilder::from_config(&run_dir.config()?));
    let builder = builder.set("data.batch_size", args.batch_size).set("data.workers", args.workers);
    let config = settle(builder.set("data.images", args.images.as_deref()))?;

    let which = match args.checkpoint {
        CheckpointFlag::Best => Which::Best,
        CheckpointFlag::Last => Which::Last,
    };
    let checkpoint = Checkpoint::open(&run_dir.checkpoint(which))?;
    let encoders = checkpoint.state()?.encoders;
    let mut model = build_model(&config, &encoders)?;
    checkpoint.load_model(&mut model)?;

    let split = match args.split {
        SplitFlag::Train => Split::Train,
        SplitFlag::Val => Split::Val,
        SplitFlag::Test => Split::Test,
    };
    let csv = args.csv.clone().unwrap_or_else(|| split.path(&config.data.splits));
    let mut loader = eval_loader(&config, Manifest::read(&csv)?, &config.data.images, &encoders)?;
    eprintln!(
        "evaluating {} on {} rows of {}",
        checkpoint.path().display(),
        loader.dataset().len(),
        csv.display()
    );
    let bar = output::progress(loader.dataset().len() as u64, "[{bar:30}] {pos}/{len} eta {eta}");
    let predictions = predict(&mut model, &mut loader, |done| {
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    for reason in loader.skipped().values() {
        tracing::warn!("skipped {reason}");
    }
    let evaluation = predictions.expect("nothing breaks it off").evaluate(&encoders, &args.group_by);
    if json {
        output::print_json(&evaluation)?;
    } else {
        print(&evaluation);
    }
    Ok(Ending::Success)
}

fn print(evaluation: &Evaluation) {
    let rows = evaluation.tasks.iter().map(|(task, m)| {
        let one_off = m.one_off.map_or(String::new(), percent);
        let shares = [m.balanced_accuracy, m.macro_f1, m.ece].map(percent);
        [vec![task.to_string(), percent(m.accuracy), one_off], shares.to_vec(), vec![format!("{:.3}", m.nll)]]
            .concat()
    });
    let rows: Vec<_> = rows.collect();
    println!("{} samples", evaluation.n);
    println!(
        "{}",
        output::table(&["task", "accuracy", "one-off", "balanced", "macro F1", "ECE", "NLL"], &rows)
    );
    if !evaluation.groups.is_empty() {
        let rows = evaluation.groups.iter().map(|g| {
            let accuracies = g.tasks.values().map(|m| percent(m.metrics.accuracy));
            [format!("{} {}", g.by, g.group), g.n.to_string()].into_iter().chain(accuracies).collect()
        });
        println!("\n{}", output::table(&["group", "n", "age", "gender", "race"], &rows.collect::<Vec<_>>()));
    }
}
