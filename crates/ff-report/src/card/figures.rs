//! How good the model is: by task, by group with intervals, the largest gaps, calibration. Every table says which
//! record it is from.

use ff_core::PerTask;
use ff_data::Split;
use ff_eval::{EvaluationRecord, Interval, TaskMetrics, wilson};

use super::ModelCard;
use super::markdown::{table, text};
use crate::evaluation::{GAP_COLUMNS, INTERSECTION_COLUMNS, NamedEvaluation};
use crate::numbers::{NONE, figure, fixed, grouped, percent, range};
use crate::page::capital;
use crate::run::TaskSummary;

/// What the model was judged on.
pub struct Judged<'a> {
    /// The labels' file, without its folder.
    pub csv: String,
    /// The split of the run's data that it is, if it is one.
    pub split: Option<Split>,
    by: By<'a>,
}

enum By<'a> {
    Evaluation(&'a NamedEvaluation),
    /// The validation of an epoch.
    Training {
        epoch: u64,
        tasks: PerTask<TaskSummary>,
    },
}

impl Judged<'_> {
    /// The column that a row had to be true in, if not all rows count.
    pub fn subset(&self) -> Option<&str> {
        match self.by {
            By::Evaluation(evaluation) => evaluation.record.source.subset.as_deref(),
            By::Training { .. } => None,
        }
    }

    /// Figures a task.
    pub fn metrics(&self) -> impl Iterator<Item = (&str, &TaskMetrics)> {
        let (evaluated, trained) = match &self.by {
            By::Evaluation(evaluation) => (Some(&evaluation.record.evaluation.tasks), None),
            By::Training { tasks, .. } => (None, Some(tasks)),
        };
        let evaluated = evaluated.into_iter().flat_map(|tasks| tasks.iter());
        let trained = trained.into_iter().flat_map(|tasks| tasks.iter());
        let evaluated = evaluated.map(|(task, metrics)| (task.as_str(), metrics));
        evaluated.chain(trained.map(|(task, summary)| (task.as_str(), &summary.metrics)))
    }
}

/// The evaluations of the card's checkpoint, one a file of labels; without any, its validation while it was trained.
pub fn judged<'a>(card: &ModelCard<'a>) -> Vec<Judged<'a>> {
    let mut evaluations: Vec<&NamedEvaluation> = card.evaluations().collect();
    // The shorter the name, the fewer options were not the usual ones.
    evaluations.sort_by_key(|evaluation| (evaluation.name.len(), &evaluation.name));
    let mut judged: Vec<Judged> = Vec::new();
    for evaluation in evaluations {
        let source = &evaluation.record.source;
        let same = |other: &Judged| match other.by {
            By::Evaluation(other) => {
                (&other.record.source.csv, &other.record.source.subset) == (&source.csv, &source.subset)
            }
            By::Training { .. } => false,
        };
        if !judged.iter().any(same) {
            let csv = source.csv.file_name().unwrap_or_default().to_string_lossy().into_owned();
            judged.push(Judged { csv, split: card.split(&source.csv), by: By::Evaluation(evaluation) });
        }
    }
    judged.sort_by_key(|judged| rank(judged.split));
    if let Some(epoch) = card.epoch().filter(|_| judged.is_empty()) {
        let tasks = TaskSummary::of_epoch(epoch, &card.report.encoders);
        let (csv, split) = (Split::Val.file_name().to_owned(), Some(Split::Val));
        judged.push(Judged { csv, split, by: By::Training { epoch: epoch.epoch, tasks } });
    }
    judged
}

/// How little a split's figures say about other faces.
pub fn rank(split: Option<Split>) -> u8 {
    match split {
        Some(Split::Test) => 0,
        Some(Split::Val) => 1,
        Some(Split::Train) => 2,
        None => 3,
    }
}

/// What the rows of a file of labels are to the model.
pub fn heading(split: Option<Split>, csv: &str) -> String {
    match split {
        Some(Split::Test) => "Test split".to_owned(),
        Some(Split::Val) => "Validation split, which also chose the checkpoint".to_owned(),
        Some(Split::Train) => "Training split, which the model has seen".to_owned(),
        None => format!("Labels {csv}"),
    }
}

/// The section.
pub fn figures(card: &ModelCard) -> String {
    let judged = judged(card);
    let mut out = String::from("## Figures\n\n");
    match judged.first().map(|judged| &judged.by) {
        None => return out + "Not evaluated, and not validated while it was trained.\n",
        Some(By::Training { .. }) => out.push_str(
            "Not evaluated yet: there is no record of an evaluation of this checkpoint. What follows is the \
             validation while it was trained, by which checkpoints are chosen: figures are better than on other \
             faces, and none is by group.\n\n",
        ),
        Some(By::Evaluation(_)) => {}
    }
    out.push_str(
        "Intervals cover 95 %: those of shares are Wilson's, those of differences come from resampling. \"Always\" \
         is the share of the most common label, which is what answering nothing else would reach. ECE is the \
         expected calibration error: how far probabilities are off on average.\n",
    );
    for judged in &judged {
        out.push_str(&match &judged.by {
            By::Evaluation(evaluation) => evaluated(evaluation, judged),
            By::Training { epoch, tasks } => trained(*epoch, tasks),
        });
    }
    let shown = |evaluation: &NamedEvaluation| {
        judged
            .iter()
            .any(|judged| matches!(judged.by, By::Evaluation(shown) if shown.name == evaluation.name))
    };
    let others = card.report.evaluations.iter().filter(|evaluation| !shown(evaluation));
    let others: Vec<String> = others.map(|other| format!("evaluation/{}.json", text(&other.name))).collect();
    if !others.is_empty() {
        let others = others.join(", ");
        out.push_str(&format!("\nFurther records, of other options or another checkpoint: {others}.\n"));
    }
    out + &calibration(card)
}

fn trained(epoch: u64, tasks: &PerTask<TaskSummary>) -> String {
    let rows = tasks.iter().map(|(task, summary)| {
        let always = (summary.majority_label.as_str(), summary.majority_share);
        row(task.as_str(), summary.n, summary.accuracy_interval, always, &summary.metrics)
    });
    format!(
        "\n### Validation split, while training\n\nFrom metrics.jsonl, epoch {epoch}.\n\n{}",
        table(&TASK_COLUMNS, &rows.collect::<Vec<_>>())
    )
}

fn evaluated(evaluation: &NamedEvaluation, judged: &Judged) -> String {
    let NamedEvaluation { name, record } = evaluation;
    let (heading, source) = (heading(judged.split, &judged.csv), source(record, &judged.csv));
    let mut out =
        format!("\n### {}\n\nFrom evaluation/{}.json: {}.\n\n", text(&heading), text(name), text(&source));
    let rows = record.evaluation.tasks.iter().map(|(task, metrics)| {
        let confusion = &record.evaluation.confusion[task];
        let labelled = confusion.by_label();
        let n = confusion.n();
        let most = labelled.iter().enumerate().rev().max_by_key(|(_, count)| **count);
        let (class, count) = most.map_or((0, 0), |(class, &count)| (class, count));
        let label = record.evaluation.labels[task].get(class).map_or(NONE, String::as_str);
        let always = (label, if n == 0 { f64::NAN } else { count as f64 / n as f64 });
        row(task.as_str(), n, wilson(confusion.hits().iter().sum(), n), always, metrics)
    });
    out.push_str(&table(&TASK_COLUMNS, &rows.collect::<Vec<_>>()));

    let findings: Vec<String> =
        evaluation.findings().iter().map(|found| format!("- {}\n", text(found))).collect();
    if !findings.is_empty() {
        out.push_str(&format!("\nGroups whose intervals do not even overlap:\n\n{}", findings.concat()));
    }
    let gaps = evaluation.gap_rows();
    if !gaps.is_empty() {
        let (small, resamples) = (ff_eval::SMALL_GROUP, grouped(u64::from(record.bootstrap.resamples)));
        out.push_str(&format!(
            "\n#### Largest gaps\n\nBetween the groups of {small} faces or more, where there are two. Differences \
             in points of accuracy, of how often a class is predicted (demographic parity), and of how often \
             rightly or wrongly (equalized odds); brackets: {resamples} resamples.\n\n{}",
            table(&GAP_COLUMNS, &gaps)
        ));
    }
    for groups in evaluation.single_groupings() {
        let by = groups[0].by.to_string();
        let rows = groups.iter().map(|group| {
            let star = if group.small { "*" } else { "" };
            let shares = group.tasks.values().map(|task| {
                let accuracy = task.metrics.as_ref().map_or_else(|| NONE.to_owned(), |m| percent(m.accuracy));
                task.accuracy_interval.map_or(accuracy.clone(), |i| format!("{accuracy} ({})", ends(&i)))
            });
            [group.group.clone(), grouped(group.n) + star].into_iter().chain(shares).collect()
        });
        let tasks = record.evaluation.labels.names().map(|task| task.as_str());
        let header: Vec<&str> = [by.as_str(), "n"].into_iter().chain(tasks).collect();
        let rows: Vec<Vec<String>> = rows.collect();
        let few = if groups.iter().any(|group| group.small) {
            format!(" A star marks groups of fewer than {}.", ff_eval::SMALL_GROUP)
        } else {
            String::new()
        };
        out.push_str(&format!("\n#### Accuracy by {}\n\n{}", text(&by), table(&header, &rows)));
        out.push_str(&format!("\nBy a task's own labels its accuracy is the recall of each.{few}\n"));
    }
    let worst = evaluation.intersection_rows();
    if !worst.is_empty() {
        let table = table(&INTERSECTION_COLUMNS, &worst);
        out.push_str(&format!("\n#### Crossed groups with the lowest accuracy\n\n{table}"));
    }
    out
}

const TASK_COLUMNS: [&str; 10] =
    ["task", "n", "accuracy", "95 % interval", "always", "one-off", "balanced", "macro F1", "ECE", "NLL"];

fn row(
    task: &str,
    n: u64,
    interval: Option<Interval>,
    (label, share): (&str, f64),
    metrics: &TaskMetrics,
) -> Vec<String> {
    let one_off = metrics.one_off.map_or_else(|| NONE.to_owned(), percent);
    let always = format!("{} ({label})", percent(share));
    let interval = interval.map_or_else(|| NONE.to_owned(), |interval| ends(&interval));
    let [accuracy, balanced, f1, ece] =
        [metrics.accuracy, metrics.balanced_accuracy, metrics.macro_f1, metrics.ece].map(percent);
    let nll = figure(metrics.nll);
    vec![task.to_owned(), grouped(n), accuracy, interval, always, one_off, balanced, f1, ece, nll]
}

fn ends(interval: &Interval) -> String {
    range((interval.low, interval.high), percent)
}

/// Which rows, seen how.
pub fn source(record: &EvaluationRecord, csv: &str) -> String {
    let source = &record.source;
    let mut facts = vec![format!("{} rows of {csv}", grouped(record.evaluation.n as u64))];
    facts.extend(source.subset.as_ref().map(|column| format!("only those with {column}")));
    facts.extend(source.tta.description().map(str::to_owned));
    if source.skipped > 0 {
        facts.push(format!("{} more could not be read", grouped(source.skipped as u64)));
    }
    facts.join("; ")
}

/// The temperatures that evaluations fitted.
fn calibration(card: &ModelCard) -> String {
    let rows = card.evaluations().flat_map(|NamedEvaluation { name, record }| {
        let fitted =
            record.calibration.iter().flat_map(|found| found.tasks.iter().map(move |task| (found, task)));
        fitted.map(move |(found, (task, after))| {
            let before = &record.evaluation.tasks[task];
            let change = |from: String, to: String| format!("{from}, then {to}");
            let on = found.fitted_on.file_name().unwrap_or_default().to_string_lossy();
            vec![
                capital(task.as_str()),
                fixed(after.temperature, 3),
                change(percent(before.ece), percent(after.ece)),
                change(figure(before.nll), figure(after.nll)),
                format!("{} rows of {on}", grouped(found.n as u64)),
                format!("evaluation/{name}.json"),
            ]
        })
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut out = String::from("\n## Calibration\n\n");
    if rows.is_empty() {
        out.push_str("The probabilities are the network's own: no temperature was fitted. ECE says how far they are off.\n");
        return out;
    }
    out.push_str(
        "The model's probabilities are the network's own; divide its logits by the temperature to have them \
         calibrated. Above 1 it is too sure of itself.\n\n",
    );
    out + &table(&["task", "temperature", "ECE", "NLL", "fitted on", "record"], &rows)
}
