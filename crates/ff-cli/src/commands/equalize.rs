//! `equalize`: thresholds by group that make a decision equally often right in every group, and what that costs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;
use ff_core::TaskName;
use ff_eval::{
    Bootstrap, Comparison, Equalized, Equalizer, GroupRule, Grouping, Parity, SMALL_GROUP, Side, compare,
    per_sample_csv,
};
use ff_report::ComparisonPage;
use ff_report::numbers::{fixed, percent};
use serde::Serialize;

use super::compare::{check_columns, print};
use super::evaluate::SplitFlag;
use super::sides::{FileFlags, Opened};
use crate::Ending;
use crate::flags::{BootstrapFlags, recorded_path};
use crate::inference::PaceFlags;
use crate::output::{self, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};

/// Find thresholds by group that make a decision equally often right in every group, and what that costs.
///
/// A task of two classes is decided for or against --class. FIT says which rates each group can have; of those that all
/// can have, the ones with the fewest mistakes are taken (Hardt, Price and Srebro, "Equality of opportunity in supervised
/// learning", 2016) and tried on APPLY: the table is of APPLY as it was and as it is decided, as `compare` makes it.
///
/// FIT and APPLY are runs' folders, or files of predictions with probabilities, labelled by --labels or by columns of
/// their own. FIT should be nothing that was trained on. Lots are drawn from --seed and each file's name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Before you use this for anything but study: everybody's group is asked for at every decision, and equal \
    scores\nare decided differently by it; where no threshold has the rates, lots decide, and groups that are judged\n\
    well are judged worse on purpose. Deciding about people by race or sex in this way is unlawful in many\n\
    places. A model that sees the worst group better (more of its faces, `data.balance`, `loss.dro`) takes\n\
    nothing from anybody.\n\n\
    Examples:\n  \
    equalize runs/train-001 --task gender --class Female --group-by race\n  \
    equalize val.csv test.csv --labels labels.csv --task gender --class Male --group-by skin_tone --parity odds\n  \
    equalize runs/train-001 --task gender --class Female --group-by race --per-sample decided.csv"
)]
pub struct Args {
    /// What the thresholds are found on.
    #[arg(value_name = "FIT", value_parser = recorded_path())]
    fit: PathBuf,
    /// What they are tried on [default: another split of FIT, a run].
    #[arg(value_name = "APPLY", value_parser = recorded_path())]
    apply: Option<PathBuf>,
    /// The task, of two classes.
    #[arg(long, value_name = "TASK", value_parser = task_name)]
    task: TaskName,
    /// The class that is decided for or against.
    #[arg(long)]
    class: String,
    /// The columns that make the groups, tasks or others: together, each combination a group.
    #[arg(long, value_name = "COLUMNS")]
    group_by: Grouping,
    /// What is to be equal.
    #[arg(long, value_enum, default_value_t)]
    parity: ParityFlag,
    /// Which split of a run thresholds are found on.
    #[arg(long, value_enum, default_value_t = SplitFlag::Val, value_name = "SPLIT")]
    fit_split: SplitFlag,
    /// Which split of a run they are tried on.
    #[arg(long, value_enum, default_value_t = SplitFlag::Test)]
    split: SplitFlag,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    bootstrap: BootstrapFlags,
    /// Write a line a sample of APPLY: label, decision, the columns to group by.
    #[arg(long, value_name = "FILE")]
    per_sample: Option<PathBuf>,
    /// Write the comparison as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    force: ForceFlag,
    #[command(flatten)]
    pace: PaceFlags,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ParityFlag {
    /// True-positive rates: whoever is of the class is found equally often.
    #[default]
    Opportunity,
    /// True- and false-positive rates.
    Odds,
}

impl From<ParityFlag> for Parity {
    fn from(flag: ParityFlag) -> Self {
        match flag {
            ParityFlag::Opportunity => Self::Opportunity,
            ParityFlag::Odds => Self::Odds,
        }
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    equalizer: &'a Equalizer,
    kept: usize,
    comparison: &'a Comparison,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let claim = |path: &Option<PathBuf>, kind| {
        path.as_deref().map(|path| OutputFile::claim(path, kind, args.force)).transpose()
    };
    let (samples, page) =
        (claim(&args.per_sample, Kind::PerSample)?, claim(&args.html, Kind::EvaluationPage)?);
    let files = args.files.read()?;
    let open = |path, split| Opened::open(path, split, &files, &args.pace);
    let fit = open(&args.fit, args.fit_split)?;
    let apply = match &args.apply {
        Some(path) => open(path, args.split)?,
        None if args.fit.is_dir() => open(&args.fit, args.split)?,
        None => bail!("expected APPLY beside {}, which is no run with another split", args.fit.display()),
    };
    let by = args.group_by.attributes().to_vec();
    for side in [&fit, &apply] {
        let tasks = side.encoders().names().map(ToString::to_string);
        check_columns(&by, tasks.chain(side.attributes()).collect())?;
    }

    let same_split = !args.fit.is_dir() || args.fit_split == args.split;
    if args.apply.as_ref().is_none_or(|apply| *apply == args.fit) && same_split {
        tracing::warn!("thresholds are tried on the samples that they are found on: take others");
    }

    let fit = fit.judge(&by)?;
    let equalizer = Equalizer::fit(
        &fit.predictions,
        &fit.encoders,
        &args.task,
        &args.class,
        &args.group_by,
        args.parity.into(),
    )?;
    for rule in equalizer.rules.iter().filter(|rule| rule.n < SMALL_GROUP) {
        let GroupRule { group, n, .. } = rule;
        tracing::warn!("{group}: its thresholds are of {n} samples, fewer than {SMALL_GROUP}");
    }
    let before = apply.judge(&by)?;
    let bootstrap = Bootstrap::from(args.bootstrap);
    let Equalized { predictions, kept } =
        equalizer.apply(&before.predictions, &before.encoders, bootstrap.seed)?;
    if kept > 0 {
        tracing::warn!("{kept} samples are in none of these groups and keep their prediction");
    }
    if let Some(samples) = samples {
        samples.write(per_sample_csv(&predictions, &before.encoders, &by)?.as_bytes())?;
        note!("decisions {}", samples.path().display());
    }
    let [before, after] = [("as predicted", &before.predictions), ("equalized", &predictions)]
        .map(|(name, predictions)| Side { name, predictions, encoders: &before.encoders });
    let mut comparison = compare(before, after, &by, &bootstrap)?;
    // The others are what they were.
    comparison.tasks.retain(|task| *task == args.task);
    comparison.differences.retain(|row| row.task.as_ref() == Some(&args.task));
    comparison.mcnemar.retain(|test| test.task == args.task);
    if let Some(page) = page {
        page.write(ComparisonPage::new(&comparison).html().as_bytes())?;
        note!("page {}", page.path().display());
    }
    if json {
        output::print_json(&Printed { equalizer: &equalizer, kept, comparison: &comparison })?;
    } else {
        output::say!("{}", table(&equalizer));
        print(&comparison);
    }
    Ok(Ending::Success)
}

fn task_name(name: &str) -> Result<TaskName, String> {
    TaskName::new(name).map_err(|e| e.to_string())
}

/// A row a group: how it is decided, and the rates that are expected.
fn table(equalizer: &Equalizer) -> String {
    let threshold = |threshold: Option<f64>| threshold.map_or("never".to_owned(), |least| fixed(least, 3));
    let row = |rule: &GroupRule| {
        let [first, second] = rule.thresholds.map(threshold);
        vec![
            rule.group.clone(),
            rule.n.to_string(),
            first,
            second,
            percent(rule.second),
            percent(rule.by_lot),
            percent(rule.true_positive_rate),
            percent(rule.false_positive_rate),
        ]
    };
    let by = equalizer.by.to_string();
    let header = [&by, "n", "from", "or from", "of the second", "by lot", "found", "wrongly"];
    output::table(&header, &equalizer.rules.iter().map(row).collect::<Vec<_>>())
}
