//! `evaluate`: how good a trained model is, over all and by group, and where it goes wrong.

mod print;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use ff_data::{Split, Task};
use ff_model::FaceModel;
use ff_train::evaluation::{
    Bootstrap, Calibration, EvaluationRecord, Predictions, Settings, Source, TestTimeAugmentation,
    predict_with,
};
use ff_train::feed::Feeder;
use ff_train::report::Report;
use ff_train::run_dir::RunDir;
use ff_train::setup::{Trained, eval_feeder};
use ff_train::{ConfigBuilder, Preset};

use crate::flags::settle;
use crate::inference::{ModelFlags, PaceFlags};
use crate::output::{self, note};
use crate::{Context, Ending};

/// Evaluate a trained model: metrics for every task and group, how far groups lie apart, and the likely mistakes.
///
/// Every sample counts once; a partial last batch is not dropped. Groups are made by the true labels, each attribute
/// alone and all of them crossed. What is found is also saved to RUN/evaluation/NAME.json, NAME being the split or the
/// CSV's name, and the subset's if there is one: with the surest mistakes and suspected labels by file name. The run's
/// report shows it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    evaluate --run runs/train-001                                   best checkpoint, validation split\n  \
    evaluate --run runs/train-001 --split test --group-by race,gender\n  \
    evaluate --run runs/train-001 --split test --calibrate --tta flip\n  \
    evaluate --run runs/train-001 --split test --subset service_test\n  \
    evaluate --run runs/train-001 --csv mine.csv --images photos    any labelled CSV\n  \
    evaluate --weights fairface.safetensors --csv val.csv --images faces      FairFace's own model, once converted")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    /// Which split of the run's data; with --weights, of the sample's.
    #[arg(long, value_enum, default_value_t)]
    split: SplitFlag,
    /// A CSV of one's own, with the columns file, age, gender, race.
    #[arg(long, value_name = "FILE", conflicts_with = "split")]
    csv: Option<PathBuf>,
    /// The folder that the CSV's files are relative to [default: the run's].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Take rows whose file lies outside the images folder too.
    #[arg(long)]
    outside_root: bool,
    /// Only the rows in which this column is True, as service_test of FairFace's label files.
    #[arg(long, value_name = "COLUMN")]
    subset: Option<String>,
    /// Attributes to group by; their intersections follow.
    #[arg(long, value_delimiter = ',', value_name = "race,gender,age", default_value = "race,gender")]
    group_by: Vec<Task>,
    /// Average the probabilities of several views of each image.
    #[arg(long, value_enum, default_value_t)]
    tta: TtaFlag,
    /// Fit one temperature a task on the run's validation split, and report what it does to the evaluated rows.
    #[arg(long)]
    calibrate: bool,
    /// Resamples for the intervals of gaps between groups; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = Bootstrap::default().resamples)]
    bootstrap: u32,
    /// Seed of the resamples.
    #[arg(long, value_name = "S", default_value_t = Bootstrap::default().seed)]
    seed: u64,
    /// Write nothing into the run folder.
    #[arg(long)]
    no_save: bool,
    #[command(flatten)]
    pace: PaceFlags,
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

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum TtaFlag {
    /// The image alone.
    #[default]
    None,
    /// The image and its mirror image.
    Flip,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let run_dir = args.model.run().map(RunDir::open).transpose()?;
    let builder = match &run_dir {
        Some(run_dir) => ConfigBuilder::from_config(&run_dir.config()?),
        None => ConfigBuilder::new(Preset::Sample, &context.root),
    };
    let builder = args.pace.over(builder).set("data.outside_root", args.outside_root.then_some(true));
    let config = settle(builder)?;
    let Trained { mut model, encoders, path: checkpoint } = args.model.open(&config.train.compute()?)?;
    let tta = match args.tta {
        TtaFlag::None => TestTimeAugmentation::None,
        TtaFlag::Flip => TestTimeAugmentation::Flip,
    };
    let mut predict = |manifest, images: &Path| {
        let feeder = eval_feeder(&config, manifest, images, &encoders, &model)?;
        predictions(&mut model, feeder, tta)
    };

    let csv = args.csv.clone().unwrap_or_else(|| args.split.split().path(&config.data.splits));
    let manifest = config.data.read_manifest(&csv)?;
    let manifest = match &args.subset {
        Some(column) => manifest.subset(column)?,
        None => manifest,
    };
    let n_rows = manifest.len();
    note!("evaluating {} on {n_rows} rows of {}", checkpoint.display(), csv.display());
    let images = args.images.clone().unwrap_or_else(|| config.data.images.clone());
    let evaluated = predict(manifest, &images)?;

    let source = Source {
        checkpoint,
        csv,
        images,
        subset: args.subset.clone(),
        tta,
        skipped: n_rows - evaluated.len(),
    };
    let bootstrap = Bootstrap { resamples: args.bootstrap, seed: args.seed };
    let settings = Settings { group_by: args.group_by.clone(), bootstrap, ..Settings::default() };
    let mut record = EvaluationRecord::new(&evaluated, &encoders, source, &settings);
    if args.calibrate {
        let val = Split::Val.path(&config.data.splits);
        note!("fitting temperatures on {}", val.display());
        if val == record.source.csv {
            tracing::warn!(
                "temperatures are judged on the samples that they are fitted on: take another split"
            );
        }
        let fit = predict(config.data.read_manifest(&val)?, &config.data.images)?;
        record.calibration = Some(Calibration::new(val, &fit, &evaluated, &encoders));
    }

    if json {
        output::print_json(&record)?;
    } else {
        print::print(&record);
    }
    if let Some(run_dir) = run_dir.filter(|_| !args.no_save) {
        let path = EvaluationRecord::path(run_dir.path(), &args.name());
        record.write(&path)?;
        note!("mistakes and suspected labels by file name, and all figures: {}", path.display());
        let report = Report::read(&run_dir)?.write()?;
        note!("report {}", report.path.display());
    }
    Ok(Ending::Success)
}

fn predictions(model: &mut FaceModel, mut feeder: Feeder, tta: TestTimeAugmentation) -> Result<Predictions> {
    let bar = output::progress(feeder.loader().dataset().len() as u64, "[{bar:30}] {pos}/{len} eta {eta}");
    let predictions = predict_with(tta, model, &mut feeder, |done| {
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    for reason in feeder.loader().skipped().values() {
        tracing::warn!("skipped {reason}");
    }
    Ok(predictions.expect("nothing breaks it off"))
}

impl Args {
    /// What the record is called.
    fn name(&self) -> String {
        let csv =
            self.csv.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        let rows = csv.unwrap_or_else(|| self.split.split().name().to_owned());
        match &self.subset {
            Some(column) => format!("{rows}-{column}"),
            None => rows,
        }
    }
}

impl SplitFlag {
    fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Val => Split::Val,
            Self::Test => Split::Test,
        }
    }
}
