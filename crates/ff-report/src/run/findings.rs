//! What somebody who audits a run should be told before they look: sentences, each with its figures.
//!
//! Every rule is a function of the report that says something or nothing. They point, they do not judge.

use ff_core::{PerTask, TaskName};

use super::{RunReport, TaskSummary};
use crate::numbers::{figure, percent, range};
use crate::page::capital;

/// Share of the training time spent waiting for images from which on it is worth a word.
const MUCH_WAITING: f64 = 0.2;
/// Calibration error from which on it is worth a word.
const MUCH_ECE: f64 = 0.1;
/// With fewer images chance alone makes a calibration error that large.
const ENOUGH_FOR_ECE: u64 = 500;
/// Rise of the validation loss over its lowest value from which on it is worth a word.
const MUCH_RISE: f64 = 1.02;

/// All that is worth a word, the gravest first.
pub fn of(report: &RunReport) -> Vec<String> {
    let about_run = [unfinished(report), random_start(report), overfitting(report), still_rising(report)];
    let tasks = report.tasks.iter().flat_map(PerTask::iter);
    let about_tasks = tasks.map(|(task, s)| [no_better_than_constant(task, s), never_predicted(task, s)]);
    let sentences =
        about_run.into_iter().chain(about_tasks.flatten()).chain([miscalibrated(report), waiting(report)]);
    let about_evaluations = report.evaluations.iter().flat_map(|evaluation| {
        evaluation.findings().into_iter().map(|finding| format!("{}, {finding}", evaluation.heading()))
    });
    sentences.flatten().chain(about_evaluations).collect()
}

fn unfinished(report: &RunReport) -> Option<String> {
    let Some(last) = report.epochs.last() else {
        return Some("No epoch is finished yet, so nothing has been validated.".to_owned());
    };
    let planned = report.config.get("train")?.get("epochs")?.as_integer()?;
    let max_steps = report.config.get("train")?.get("max_steps").and_then(toml::Value::as_integer);
    let done = i64::try_from(last.epoch).ok()?;
    match max_steps {
        Some(max) if done < planned => Some(format!(
            "The run was to stop after {max} steps: it is in epoch {done} of {planned} that were asked for."
        )),
        None if done < planned => Some(format!("{done} of {planned} epochs are done.")),
        _ => None,
    }
}

fn random_start(report: &RunReport) -> Option<String> {
    let random = report.provenance.init.as_deref() == Some("random");
    random.then(|| {
        "The backbone started from random weights, not from pretrained ones: on few images accuracy stays near chance."
            .to_owned()
    })
}

/// The loss that validation and training share, as far as they do: the sum of the tasks' negative log-likelihoods.
fn overfitting(report: &RunReport) -> Option<String> {
    let losses: Vec<f64> =
        report.epochs.iter().map(|epoch| epoch.val.values().map(|m| m.nll).sum()).collect();
    let (last, epoch) = (losses.last()?, report.epochs.last()?);
    let (at, lowest) = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
    let (then, now) = (report.epochs[at].train_loss?, epoch.train_loss?);
    (*last > lowest * MUCH_RISE && now < then).then(|| {
        format!(
            "Overfitting: the validation loss was lowest in epoch {} ({}) and is {} now, while the training loss went \
             from {} to {}.",
            report.epochs[at].epoch,
            figure(*lowest),
            figure(*last),
            figure(then),
            figure(now)
        )
    })
}

fn still_rising(report: &RunReport) -> Option<String> {
    let enough = report.epochs.len() > 1 && report.best == Some(report.epochs.len() - 1);
    enough.then(|| "The last epoch is the best so far: more epochs may bring more.".to_owned())
}

fn no_better_than_constant(task: &TaskName, summary: &TaskSummary) -> Option<String> {
    let interval = summary.accuracy_interval?;
    (interval.low <= summary.majority_share).then(|| {
        format!(
            "{}: an accuracy of {} (95 % interval {}) cannot be told from always answering {}, {}.",
            capital(task.as_str()),
            percent(summary.metrics.accuracy),
            range((interval.low, interval.high), percent),
            summary.majority_label,
            percent(summary.majority_share)
        )
    })
}

fn never_predicted(task: &TaskName, summary: &TaskSummary) -> Option<String> {
    let labels = &summary.never_predicted;
    (!labels.is_empty()).then(|| {
        format!("{}: never predicted though they occur: {}.", capital(task.as_str()), labels.join(", "))
    })
}

fn miscalibrated(report: &RunReport) -> Option<String> {
    let tasks = report.tasks.as_ref()?;
    let off = tasks.iter().filter(|(_, s)| s.metrics.ece > MUCH_ECE && s.n >= ENOUGH_FOR_ECE);
    let off: Vec<_> = off.map(|(task, s)| format!("{} ({task})", percent(s.metrics.ece))).collect();
    (!off.is_empty()).then(|| {
        let off = off.join(", ");
        format!(
            "Confidence and accuracy differ by {off} on average: probabilities cannot be taken as they are."
        )
    })
}

fn waiting(report: &RunReport) -> Option<String> {
    let share = report.seconds.loader / report.seconds.training();
    (share > MUCH_WAITING).then(|| {
        format!(
            "Training waited for images {} of the time: more workers or a cache would help.",
            percent(share)
        )
    })
}

#[cfg(test)]
mod tests {
    use ff_eval::Interval;
    use ff_eval::TaskMetrics;

    use super::*;

    fn summary(low: f64, majority_share: f64, never_predicted: &[&str]) -> TaskSummary {
        let metrics = TaskMetrics {
            accuracy: 0.5,
            one_off: None,
            balanced_accuracy: 0.5,
            macro_f1: 0.5,
            ece: 0.0,
            nll: 1.0,
        };
        TaskSummary {
            metrics,
            n: 100,
            accuracy_interval: Some(Interval { low, high: 0.6 }),
            majority_label: "White".to_owned(),
            majority_share,
            never_predicted: never_predicted.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    #[test]
    fn an_accuracy_is_told_from_a_constant_answer_by_its_interval() {
        assert_eq!(no_better_than_constant(&TaskName::new("race").unwrap(), &summary(0.4, 0.39, &[])), None);
        let sentence =
            no_better_than_constant(&TaskName::new("race").unwrap(), &summary(0.4, 0.41, &[])).unwrap();
        let expected = "Race: an accuracy of 50.0 % (95 % interval 40.0 % to 60.0 %) cannot be told from always \
                        answering White, 41.0 %.";
        assert_eq!(sentence, expected);
    }

    #[test]
    fn labels_that_are_never_predicted_are_named() {
        assert_eq!(never_predicted(&TaskName::new("age").unwrap(), &summary(0.4, 0.1, &[])), None);
        let sentence =
            never_predicted(&TaskName::new("age").unwrap(), &summary(0.4, 0.1, &["0-2", "60-69"])).unwrap();
        assert_eq!(sentence, "Age: never predicted though they occur: 0-2, 60-69.");
    }
}
