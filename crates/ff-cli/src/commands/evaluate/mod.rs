//! `evaluate`: how good a trained model is, over all and by group, and where it goes wrong.

mod name;
mod predictions;
mod print;

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, ValueEnum};
use ff_core::files::write_atomic;
use ff_core::{Encoders, Order, Schema, Task, TaskName};
use ff_data::{Manifest, Split};
use ff_eval::{
    Calibration, EvaluationRecord, EvaluationSource, Outcome, Predictions, Settings, TestTimeAugmentation,
    per_sample_csv,
};
use ff_model::FaceModel;
use ff_report::EvaluationPage;
use ff_train::feed::Feeder;
use ff_train::infer::{Trained, TrainedSource, open_trained, predict_with};
use ff_train::run::{CheckpointName, RunDir};
use ff_train::setup::eval_feeder;
use ff_train::{Config, ConfigBuilder, Preset};
use serde::Serialize;

pub use predictions::tell_join;

use super::report::renew;
use crate::flags::{BootstrapFlags, TtaFlag, recorded_path, settle};
use crate::gates::{self, Gates, RequireFlags};
use crate::inference::PaceFlags;
use crate::model::ModelFlags;
use crate::output::{self, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Context, Ending};

/// Evaluate a trained model, or anybody's predictions: metrics for every task and group, how far groups lie apart, and
/// the likely mistakes.
///
/// Every sample counts once; a partial last batch is not dropped. Groups are made by the true labels, each attribute
/// alone and all of them crossed. What is found is also saved to RUN/evaluation/NAME.json, with the surest mistakes and
/// suspected labels by file name; the run's report and model card show it. NAME is the split or the CSV's name with a
/// hash, and every option that is not the usual one, so that no evaluation replaces another. NAME.csv beside it has
/// every sample.
///
/// With --predictions and --labels no model and no image is needed: two tables are joined by file name. Predictions are
/// a CSV with probabilities (columns age:LABEL or age_LABEL), or with labels (age_predicted, or age), or what `predict`
/// or FairFace's predict.py print. Labels are a CSV with a column a task, and any others to group by.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("judged").args(["model", "run", "weights", "predictions"]).required(true))]
#[command(after_help = "Examples:\n  \
    evaluate --run runs/train-001                                   best checkpoint, validation split\n  \
    evaluate --run runs/train-001 --split test --group-by race,gender\n  \
    evaluate --run runs/train-001 --split test --calibrate --tta flip\n  \
    evaluate --run runs/train-001 --split test --subset service_test\n  \
    evaluate --run runs/train-001 --csv mine.csv --images photos    any labelled CSV\n  \
    evaluate --model fairface --csv val.csv --images faces          FairFace's own model, after `weights fairface`\n  \
    evaluate --predictions theirs.csv --labels val.csv --group-by skin_tone,camera --html theirs.html\n  \
    evaluate --run runs/train-001 --require 'age.accuracy>=0.55' --require 'race.accuracy_gap[gender]<=0.10'")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    /// Predictions to judge instead of a model's: a CSV, JSON lines, or what `predict --json` prints.
    #[arg(long, value_name = "FILE", requires = "labels", value_parser = recorded_path(),
          conflicts_with_all = ["split", "csv", "subset", "tta", "calibrate", "calibrate_on", "checkpoint", "no_save"])]
    predictions: Option<PathBuf>,
    /// The labels to judge them by: a CSV with the column file and one a task.
    #[arg(long, value_name = "CSV", requires = "predictions", value_parser = recorded_path())]
    labels: Option<PathBuf>,
    /// A TOML file of `[[tasks]]`, and of spellings: `[labels.gender]`, then lines as "F" = "Female".
    #[arg(long, value_name = "FILE", requires = "predictions")]
    schema: Option<PathBuf>,
    /// Rows of predictions or labels that find no other are an error.
    #[arg(long, requires = "predictions")]
    strict: bool,
    /// Which split of the run's data; of a model file, of the sample's.
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
    /// Fit the temperatures on this CSV instead: for model files, or a CSV of other data than the run's. Its files are
    /// relative to --images too.
    #[arg(long, value_name = "FILE")]
    calibrate_on: Option<PathBuf>,
    #[command(flatten)]
    bootstrap: BootstrapFlags,
    /// Write nothing into the run folder.
    #[arg(long)]
    no_save: bool,
    /// Write a line a sample: label, prediction, its probability, the columns to group by.
    #[arg(long, value_name = "FILE")]
    per_sample: Option<PathBuf>,
    /// Write what was found as a page of its own.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    force: ForceFlag,
    #[command(flatten)]
    require: RequireFlags,
    #[command(flatten)]
    pace: PaceFlags,
}

/// Files that were asked for beside the run's own.
struct Wanted {
    gates: Gates,
    per_sample: Option<OutputFile>,
    page: Option<OutputFile>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    record: &'a EvaluationRecord,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    requirements: &'a [Outcome],
}

impl Args {
    /// Looks at what is to be written and required, before any work.
    fn wanted(&self) -> Result<Wanted> {
        let claim = |path: &Option<PathBuf>, kind| {
            path.as_deref().map(|path| OutputFile::claim(path, kind, self.force)).transpose()
        };
        Ok(Wanted {
            gates: self.require.read(self.force)?,
            per_sample: claim(&self.per_sample, Kind::PerSample)?,
            page: claim(&self.html, Kind::EvaluationPage)?,
        })
    }

    fn settings(&self, group_by: &[String]) -> Settings {
        Settings { group_by: group_by.to_vec(), bootstrap: self.bootstrap.into(), ..Settings::default() }
    }

    /// The columns to group by.
    fn group_by(&self, encoders: &Encoders) -> Vec<String> {
        self.group_by.clone().unwrap_or_else(|| usual_groups(|name| encoders.get(name).is_some()))
    }
}

impl Wanted {
    /// Writes what was asked for, and tells what was found. Nothing that is written waits for what is printed.
    fn tell(&self, name: &str, record: &EvaluationRecord, samples: &str, json: bool) -> Result<Ending> {
        if let Some(file) = &self.per_sample {
            file.write(samples.as_bytes())?;
        }
        if let Some(file) = &self.page {
            file.write(EvaluationPage::new(name, record.clone()).html().as_bytes())?;
            note!("page {}", file.path().display());
        }
        let requirements = self.gates.judge(|requirement| requirement.check(record))?;
        if json {
            output::print_json(&Printed { record, requirements: &requirements })?;
        } else {
            print::print(record);
            gates::print(&requirements);
        }
        Ok(gates::ending(&requirements))
    }
}

/// What samples are grouped by without being asked: race and gender, as far as they are tasks.
pub fn usual_groups(is_task: impl Fn(&str) -> bool) -> Vec<String> {
    DEFAULT_GROUPS.iter().filter(|name| is_task(name)).map(|&name| name.to_owned()).collect()
}

/// What `--group-by` is without being given, as far as there are such tasks.
const DEFAULT_GROUPS: [&str; 2] = ["race", "gender"];

/// A split of a run's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SplitFlag {
    /// ff_train.csv
    Train,
    /// ff_val.csv
    #[default]
    Val,
    /// ff_test.csv
    Test,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let wanted = args.wanted()?;
    if let Some((predictions, labels)) = args.predictions.as_deref().zip(args.labels.as_deref()) {
        return predictions::run(args, &wanted, predictions, labels, json);
    }
    let source = args.model.source()?;
    let run_dir = match &source {
        TrainedSource::Run { dir, .. } => Some(RunDir::open(dir)?),
        TrainedSource::Weights(_) => None,
    };
    // The sample's validation split is not of the data of a file that comes from elsewhere.
    if args.calibrate && args.calibrate_on.is_none() && run_dir.is_none() && args.csv.is_some() {
        let message = "a --csv without a run has no validation split to fit temperatures on; give labelled images of the \
                       same data that are not evaluated, with --calibrate-on FILE";
        return Err(ff_train::Error::Config { origin: "--calibrate".into(), message: message.into() }.into());
    }
    let builder = match &run_dir {
        Some(run_dir) => ConfigBuilder::from_config(&run_dir.config()?),
        None => ConfigBuilder::new(Preset::Sample, &context.root),
    };
    let builder = args.pace.over(builder).set("data.outside_root", args.outside_root.then_some(true));
    let mut config = settle(builder)?;
    let Trained { mut model, encoders, path: checkpoint, step, .. } =
        open_trained(&source, &config.train.compute()?)?;
    let precision = model.precision();
    config.tasks = encoders.schema();
    let tta = TestTimeAugmentation::from(args.tta);
    let group_by = args.group_by(&encoders);
    wanted.gates.expect(|requirement| requirement.can_check(encoders.names(), &group_by))?;
    let mut predict = |manifest, images: &Path, columns: &[String]| {
        let feeder = eval_feeder(&config, manifest, images, &encoders, &model)?;
        predictions(&mut model, feeder, tta, columns)
    };

    let csv = args.csv.clone().unwrap_or_else(|| args.split.split().path(&config.data.splits));
    let manifest = match &args.csv {
        Some(csv) => config.read_manifest(csv)?,
        None => config.read_split(args.split.split())?,
    };
    let labels = args.csv.as_ref().map(|_| manifest.to_csv());
    let manifest = match &args.subset {
        Some(column) => manifest.subset(column)?,
        None => manifest,
    };
    let n_rows = manifest.len();
    note!("evaluating {} on {n_rows} rows of {}, in {precision}", checkpoint.display(), csv.display());
    let images = args.images.clone().unwrap_or_else(|| config.data.images.clone());
    let evaluated = predict(manifest, &images, &group_by)?;

    let source = EvaluationSource {
        checkpoint: Some(checkpoint),
        step,
        precision: Some(precision.name().to_owned()),
        csv,
        images: Some(images.clone()),
        subset: args.subset.clone(),
        tta,
        skipped: n_rows - evaluated.len(),
        ..EvaluationSource::default()
    };
    let mut record = EvaluationRecord::new(&evaluated, &encoders, source, &args.settings(&group_by))?;
    if args.calibrate || args.calibrate_on.is_some() {
        let (csv, images, manifest) = match &args.calibrate_on {
            Some(csv) => (csv.clone(), &images, config.read_manifest(csv)?),
            None => {
                let csv = Split::Val.path(&config.data.splits);
                (csv, &config.data.images, config.read_split(Split::Val)?)
            }
        };
        note!("fitting temperatures on {}", csv.display());
        if is_same_file(&csv, &record.source.csv) {
            tracing::warn!(
                "temperatures are judged on the samples that they are fitted on: take another split"
            );
        }
        let fit = predict(manifest, images, &[])?;
        record.calibration = Some(Calibration::new(csv, &fit, &evaluated, &encoders));
    }

    // What is found is saved before it is printed, and printed even if it cannot be saved.
    let name = name::name(args, labels.as_deref());
    let samples = per_sample_csv(&evaluated, &encoders, &group_by)?;
    let saved = run_dir.filter(|_| !args.no_save);
    let saved = saved.map_or(Ok(()), |run_dir| save(&record, &samples, &run_dir, &name));
    let ending = wanted.tell(&name, &record, &samples, json)?;
    saved.map(|()| ending)
}

/// A run's best checkpoint and a split of its data, before the model has seen it.
pub struct SplitOfRun {
    config: Config,
    trained: Trained,
    csv: PathBuf,
    manifest: Manifest,
}

impl SplitOfRun {
    pub fn open(path: &Path, split: SplitFlag, pace: &PaceFlags) -> Result<Self> {
        let run_dir = RunDir::open(path)?;
        let config = settle(pace.over(ConfigBuilder::from_config(&run_dir.config()?)))?;
        let source = TrainedSource::Run { dir: path.to_owned(), which: CheckpointName::Best };
        let trained = open_trained(&source, &config.train.compute()?)?;
        let csv = split.split().path(&config.data.splits);
        let manifest = config.read_split(split.split())?;
        Ok(Self { config, trained, csv, manifest })
    }

    pub fn encoders(&self) -> &Encoders {
        &self.trained.encoders
    }

    /// The columns of its CSV beside those of the tasks.
    pub fn extra_columns(&self) -> &[String] {
        self.manifest.extra_columns()
    }

    /// What the model says of the samples, and these columns of theirs.
    pub fn predict(self, columns: &[String]) -> Result<(Predictions, Encoders)> {
        let Self { config, trained: Trained { mut model, encoders, path, .. }, csv, manifest } = self;
        note!("evaluating {} on {} rows of {}", path.display(), manifest.len(), csv.display());
        let feeder = eval_feeder(&config, manifest, &config.data.images, &encoders, &model)?;
        Ok((predictions(&mut model, feeder, TestTimeAugmentation::None, columns)?, encoders))
    }
}

/// Whether a file is a record that `evaluate` wrote, by how it begins.
pub fn is_record(path: &Path) -> Result<bool> {
    const MARK: &[u8] = b"{\"source\":";
    let mut head = Vec::new();
    fs_err::File::open(path)?.take(MARK.len() as u64).read_to_end(&mut head)?;
    Ok(head == MARK)
}

/// The tasks of a record, FairFace's for any other file. Orders of classes stand in no record: ages have theirs.
pub fn tasks_of(path: &Path) -> Result<Schema> {
    if !is_record(path)? {
        return Ok(Schema::fairface());
    }
    let record = EvaluationRecord::read(path)?;
    let task = |name: &TaskName| Task { order: Order::of_version_0_1(name), ..Task::new(name.as_str()) };
    Ok(Schema::new(record.evaluation.labels.names().map(task).collect())?)
}

fn save(record: &EvaluationRecord, samples: &str, run_dir: &RunDir, name: &str) -> Result<()> {
    let path = EvaluationRecord::path(run_dir.path(), name);
    record.write(&path)?;
    write_atomic(&path.with_extension("csv"), samples.as_bytes())?;
    note!("mistakes and suspected labels by file name, and all figures: {}", path.display());
    let renewed = renew(run_dir)?;
    note!("report {}", renewed.written.path.display());
    renewed.tell_card();
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

impl SplitFlag {
    fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Val => Split::Val,
            Self::Test => Split::Test,
        }
    }
}
