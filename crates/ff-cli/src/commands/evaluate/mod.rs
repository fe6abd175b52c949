//! `evaluate`: how good a trained model is, over all and by group, and where it goes wrong.

mod name;
mod print;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use ff_data::Split;
use ff_eval::{
    Bootstrap, Calibration, EvaluationRecord, Predictions, Settings, Source, TestTimeAugmentation,
};
use ff_model::FaceModel;
use ff_report::RunReport;
use ff_train::feed::Feeder;
use ff_train::infer::{Trained, predict_with};
use ff_train::run::RunDir;
use ff_train::setup::eval_feeder;
use ff_train::{ConfigBuilder, Preset};

use crate::flags::{recorded_path, settle};
use crate::inference::{ModelFlags, PaceFlags};
use crate::output::{self, note};
use crate::ranges::{self, whole};
use crate::{Context, Ending};

/// Evaluate a trained model: metrics for every task and group, how far groups lie apart, and the likely mistakes.
///
/// Every sample counts once; a partial last batch is not dropped. Groups are made by the true labels, each attribute
/// alone and all of them crossed. What is found is also saved to RUN/evaluation/NAME.json, with the surest mistakes and
/// suspected labels by file name; the run's report shows it. NAME is the split or the CSV's name with a hash, and every
/// option that is not the usual one, so that no evaluation replaces another.
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
    /// A CSV of one's own, with the column file and one a task: age, gender, race, or those of the run.
    #[arg(long, value_name = "FILE", conflicts_with = "split", value_parser = recorded_path())]
    csv: Option<PathBuf>,
    /// The folder that the CSV's files are relative to [default: the run's].
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    images: Option<PathBuf>,
    /// Take rows whose file lies outside the images folder too.
    #[arg(long)]
    outside_root: bool,
    /// Only the rows in which this column is True, as service_test of FairFace's label files.
    #[arg(long, value_name = "COLUMN", value_parser = NonEmptyStringValueParser::new())]
    subset: Option<String>,
    /// Columns to group by, tasks or others of the CSV; their intersections follow [default: race and gender, as far as
    /// they are tasks].
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", value_parser = NonEmptyStringValueParser::new())]
    group_by: Option<Vec<String>>,
    /// Average the probabilities of several views of each image.
    #[arg(long, value_enum, default_value_t)]
    tta: TtaFlag,
    /// Fit one temperature a task on the run's validation split, and report what it does to the evaluated rows.
    #[arg(long)]
    calibrate: bool,
    /// Fit the temperatures on this CSV instead: for --weights, or a CSV of other data than the run's. Its files are
    /// relative to --images too.
    #[arg(long, value_name = "FILE")]
    calibrate_on: Option<PathBuf>,
    /// Resamples for the intervals of gaps between groups; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = Bootstrap::default().resamples,
          value_parser = whole::<u32>(ranges::RESAMPLES))]
    bootstrap: u32,
    /// Seed of the resamples.
    #[arg(long, value_name = "S", default_value_t = Bootstrap::default().seed,
          value_parser = whole::<u64>(ranges::SEED))]
    seed: u64,
    /// Write nothing into the run folder.
    #[arg(long)]
    no_save: bool,
    #[command(flatten)]
    pace: PaceFlags,
}

/// What `--group-by` is without being given, as far as there are such tasks.
const DEFAULT_GROUPS: [&str; 2] = ["race", "gender"];

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
    // The sample's validation split is not of the data of a file that comes from elsewhere.
    if args.calibrate && args.calibrate_on.is_none() && args.model.run().is_none() && args.csv.is_some() {
        let message = "with --weights and --csv there is no validation split to fit temperatures on; give labelled images \
                       of the same data that are not evaluated, with --calibrate-on FILE";
        return Err(ff_train::Error::Config { origin: "--calibrate".into(), message: message.into() }.into());
    }
    let run_dir = args.model.run().map(RunDir::open).transpose()?;
    let builder = match &run_dir {
        Some(run_dir) => ConfigBuilder::from_config(&run_dir.config()?),
        None => ConfigBuilder::new(Preset::Sample, &context.root),
    };
    let builder = args.pace.over(builder).set("data.outside_root", args.outside_root.then_some(true));
    let mut config = settle(builder)?;
    let Trained { mut model, encoders, path: checkpoint, .. } = args.model.open(&config.train.compute()?)?;
    config.tasks = encoders.schema();
    let tta = match args.tta {
        TtaFlag::None => TestTimeAugmentation::None,
        TtaFlag::Flip => TestTimeAugmentation::Flip,
    };
    let group_by = args.group_by.clone().unwrap_or_else(|| {
        let usual = DEFAULT_GROUPS.iter().filter(|name| encoders.get(name).is_some());
        usual.map(|&name| name.to_owned()).collect()
    });
    let mut predict = |manifest, images: &Path| {
        let feeder = eval_feeder(&config, manifest, images, &encoders, &model)?;
        predictions(&mut model, feeder, tta, &group_by)
    };

    let csv = args.csv.clone().unwrap_or_else(|| args.split.split().path(&config.data.splits));
    let manifest = config.read_manifest(&csv)?;
    let labels = args.csv.as_ref().map(|_| manifest.to_csv());
    let manifest = match &args.subset {
        Some(column) => manifest.subset(column)?,
        None => manifest,
    };
    let n_rows = manifest.len();
    note!("evaluating {} on {n_rows} rows of {}", checkpoint.display(), csv.display());
    let images = args.images.clone().unwrap_or_else(|| config.data.images.clone());
    let evaluated = predict(manifest, &images)?;

    let source = Source {
        checkpoint: Some(checkpoint),
        csv,
        images: Some(images.clone()),
        subset: args.subset.clone(),
        tta,
        skipped: n_rows - evaluated.len(),
        ..Source::default()
    };
    let bootstrap = Bootstrap { resamples: args.bootstrap, seed: args.seed };
    let settings = Settings { group_by: group_by.clone(), bootstrap, ..Settings::default() };
    let mut record = EvaluationRecord::new(&evaluated, &encoders, source, &settings)?;
    if args.calibrate || args.calibrate_on.is_some() {
        let (csv, images) = match &args.calibrate_on {
            Some(csv) => (csv.clone(), &images),
            None => (Split::Val.path(&config.data.splits), &config.data.images),
        };
        note!("fitting temperatures on {}", csv.display());
        if is_same_file(&csv, &record.source.csv) {
            tracing::warn!(
                "temperatures are judged on the samples that they are fitted on: take another split"
            );
        }
        let fit = predict(config.read_manifest(&csv)?, images)?;
        record.calibration = Some(Calibration::new(csv, &fit, &evaluated, &encoders));
    }

    // What is found is saved before it is printed, and printed even if it cannot be saved.
    let name = name::name(args, labels.as_deref());
    let saved = run_dir.filter(|_| !args.no_save).map_or(Ok(()), |run_dir| save(&record, &run_dir, &name));
    if json {
        output::print_json(&record)?;
    } else {
        print::print(&record);
    }
    saved.map(|()| Ending::Success)
}

fn save(record: &EvaluationRecord, run_dir: &RunDir, name: &str) -> Result<()> {
    let path = EvaluationRecord::path(run_dir.path(), name);
    record.write(&path)?;
    note!("mistakes and suspected labels by file name, and all figures: {}", path.display());
    let report = RunReport::read(run_dir)?.write()?;
    note!("report {}", report.path.display());
    Ok(())
}

fn predictions(
    model: &mut FaceModel,
    mut feeder: Feeder,
    tta: TestTimeAugmentation,
    columns: &[String],
) -> Result<Predictions> {
    let bar = output::progress(feeder.loader().dataset().len() as u64, "[{bar:30}] {pos}/{len} eta {eta}");
    let predictions = predict_with(tta, columns, model, &mut feeder, |done| {
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    for reason in feeder.loader().skipped().values() {
        tracing::warn!("skipped {reason}");
    }
    Ok(predictions.expect("nothing breaks it off"))
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let real = |path| fs_err::canonicalize(path).ok();
    a == b || real(a).zip(real(b)).is_some_and(|(a, b)| a == b)
}

impl TtaFlag {
    /// What it adds to a record's name.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Flip => Some("flip"),
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
