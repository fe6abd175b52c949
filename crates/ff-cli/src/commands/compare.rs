//! `compare`: two models, evaluations or files of predictions on the same samples.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::NonEmptyStringValueParser;
use ff_core::TaskName;
use ff_eval::{Comparison, Difference, Outcome, compare};
use ff_report::numbers::figure as number;
use ff_report::{ComparisonPage, compared};
use serde::Serialize;

use super::evaluate::{SplitFlag, usual_groups};
use super::sides::{FileFlags, Opened};
use crate::Ending;
use crate::flags::{BootstrapFlags, recorded_path};
use crate::gates::{self, RequireFlags};
use crate::inference::PaceFlags;
use crate::output::{self, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};

/// Compare two models, evaluations or files of predictions on the same samples.
///
/// Each side is a run's folder, which is evaluated on a split of its data; a record of `evaluate`
/// (RUN/evaluation/NAME.json, by the samples in NAME.csv beside it); or a file of predictions, judged by --labels or by
/// labels of its own. Samples go together by file name. Every figure's difference, second less first, has a paired
/// bootstrap interval, and accuracy McNemar's test, over all samples and in every group.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    compare runs/train-001 runs/train-002 --split test\n  \
    compare runs/train-001 runs/train-002 --require 'accuracy.diff@lower>=-0.01' --junit gate.xml\n  \
    compare runs/a/evaluation/test.json runs/b/evaluation/test.json --html compared.html\n  \
    compare ours.csv theirs.csv --labels labels.csv --group-by skin_tone")]
pub struct Args {
    /// The first side.
    #[arg(value_name = "A", value_parser = recorded_path())]
    a: PathBuf,
    /// The second side.
    #[arg(value_name = "B", value_parser = recorded_path())]
    b: PathBuf,
    /// Which split of a run's data.
    #[arg(long, value_enum, default_value_t)]
    split: SplitFlag,
    #[command(flatten)]
    files: FileFlags,
    /// Columns to group by, tasks or others; their intersections follow [default: race and gender, as far as they are
    /// tasks].
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", value_parser = NonEmptyStringValueParser::new())]
    group_by: Option<Vec<String>>,
    #[command(flatten)]
    bootstrap: BootstrapFlags,
    /// Write what was found as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    force: ForceFlag,
    #[command(flatten)]
    require: RequireFlags,
    #[command(flatten)]
    pace: PaceFlags,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    comparison: &'a Comparison,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    requirements: &'a [Outcome],
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let gates = args.require.read(args.force)?;
    let page = args.html.as_deref();
    let page = page.map(|path| OutputFile::claim(path, Kind::EvaluationPage, args.force)).transpose()?;
    let files = args.files.read()?;
    // Whatever can be wrong with either side is said before a model runs.
    let [first, second] = [&args.a, &args.b].map(|path| Opened::open(path, args.split, &files, &args.pace));
    let (first, second) = (first?, second?);
    let tasks = || first.encoders().names().filter(|task| second.encoders().get(task.as_str()).is_some());
    let usual = || usual_groups(|name| tasks().any(|task| *task == name));
    let group_by = args.group_by.clone().unwrap_or_else(usual);
    let known = tasks().map(TaskName::to_string).chain(first.attributes()).chain(second.attributes());
    check_columns(&group_by, known.collect())?;
    gates.expect(|requirement| requirement.can_check_comparison(tasks(), &group_by))?;

    let (first, second) = (first.judge(&group_by)?, second.judge(&group_by)?);
    let [a, b] = [&args.a, &args.b].map(|path| path.display().to_string());
    let comparison = compare(first.side(&a), second.side(&b), &group_by, &args.bootstrap.into())?;

    if let Some(page) = page {
        page.write(ComparisonPage::new(&comparison).html().as_bytes())?;
        note!("page {}", page.path().display());
    }
    let requirements = gates.judge(|requirement| requirement.check_comparison(&comparison))?;
    if json {
        output::print_json(&Printed { comparison: &comparison, requirements: &requirements })?;
    } else {
        print(&comparison);
        gates::print(&requirements);
    }
    Ok(gates::ending(&requirements))
}

/// Whether there is each column; those of both sides may be there twice.
pub fn check_columns(group_by: &[String], mut known: Vec<String>) -> Result<()> {
    known.sort();
    known.dedup();
    match group_by.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(found) => Err(ff_eval::Error::NoSuchColumn { known, found: found.clone() }.into()),
    }
}

/// Prints a table a kind of rows.
pub fn print(comparison: &Comparison) {
    let Comparison { a, b, n, only_a, only_b, .. } = comparison;
    output::say!("{n} samples; {b} less {a}");
    for (alone, name) in [(only_a, a), (only_b, b)] {
        if alone.n > 0 {
            output::say!("{} samples are only in {name} and do not count", alone.n);
        }
    }
    let table = |rows: &mut dyn Iterator<Item = &Difference>| {
        let row = |row: &Difference| {
            let place = [row.by.as_ref().map(ToString::to_string), row.group.clone()];
            let name = row.task.as_ref().map_or("all tasks".to_owned(), ToString::to_string);
            let name: Vec<String> = [Some(name)].into_iter().chain(place).flatten().collect();
            let interval = row.low.zip(row.high);
            let interval = interval
                .map(|(low, high)| format!("{} to {}", compared(row.figure, low), compared(row.figure, high)))
                .unwrap_or_default();
            vec![
                format!("{} {}", name.join(" "), row.figure),
                compared(row.figure, row.a),
                compared(row.figure, row.b),
                compared(row.figure, row.difference),
                interval,
                row.p.map_or(String::new(), number),
                row.n.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = rows.map(row).collect();
        if !rows.is_empty() {
            let header = ["figure", "first", "second", "difference", "95 % interval", "McNemar p", "n"];
            output::say!("\n{}", output::table(&header, &rows));
        }
    };
    table(&mut comparison.differences.iter().filter(|row| row.by.is_none()));
    table(&mut comparison.differences.iter().filter(|row| row.by.is_some() && row.group.is_none()));
    // A group's own figures but accuracy are for the page.
    let accuracies = comparison.differences.iter().filter(|row| row.group.is_some() && row.p.is_some());
    table(&mut accuracies.filter(|row| row.by.as_ref().is_some_and(|by| by.attributes().len() == 1)));
}
