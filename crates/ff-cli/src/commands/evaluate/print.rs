//! An evaluation in tables: what fits a screen. The rest is in the record.

use ff_core::TaskName;
use ff_eval::{
    Calibration, Disparities, Estimate, EvaluationRecord, GroupMetrics, Interval, Over, SMALL_GROUP,
};

use crate::output::{self, fixed, percent, points, table};

/// Groupings with more groups are summed up, not listed.
const MOST_GROUPS: usize = 20;
/// Confusions shown a task.
const CONFUSIONS: usize = 3;

pub fn print(record: &EvaluationRecord) {
    print_tasks(record);
    if let Some(calibration) = &record.calibration {
        print_calibration(record, calibration);
    }
    for groups in record.evaluation.groups.chunk_by(|a, b| a.by == b.by) {
        print_groups(groups);
        print_disparities(record, groups);
    }
    output::say!("\nmost frequent confusions (share of the label)");
    for (task, confusions) in record.top_confusions.iter() {
        let shown = confusions.iter().take(CONFUSIONS);
        let shown = shown.map(|c| format!("{} as {} ({})", c.label, c.predicted, percent(c.share)));
        output::say!("{task:<8}{}", shown.collect::<Vec<_>>().join(", "));
    }
    let suspects = record.label_errors.iter().map(|(task, errors)| format!("{task} {}", errors.n_suspects));
    output::say!("\nsuspected labels: {}", suspects.collect::<Vec<_>>().join(", "));
}

fn print_tasks(record: &EvaluationRecord) {
    let rows = record.evaluation.tasks.iter().map(|(task, m)| {
        let one_off = m.one_off.map_or(String::new(), percent);
        let shares = [m.balanced_accuracy, m.macro_f1, m.ece].map(percent);
        let [balanced, macro_f1, ece] = shares;
        vec![task.to_string(), percent(m.accuracy), one_off, balanced, macro_f1, ece, fixed(m.nll, 3)]
    });
    output::say!("{} samples", record.evaluation.n);
    let header = ["task", "accuracy", "one-off", "balanced", "macro F1", "ECE", "NLL"];
    output::say!("{}", table(&header, &rows.collect::<Vec<_>>()));
}

fn print_calibration(record: &EvaluationRecord, calibration: &Calibration) {
    let rows = calibration.tasks.iter().map(|(task, c)| {
        let before = &record.evaluation.tasks[task];
        let ece = format!("{} -> {}", percent(before.ece), percent(c.ece));
        let nll = format!("{} -> {}", fixed(before.nll, 3), fixed(c.nll, 3));
        vec![task.to_string(), fixed(c.temperature, 3), ece, nll]
    });
    let rows: Vec<_> = rows.collect();
    output::say!(
        "\ntemperature scaling, fitted on {} samples of {}",
        calibration.n,
        calibration.fitted_on.display()
    );
    output::say!("{}", table(&["task", "temperature", "ECE", "NLL"], &rows));
}

/// The groups of one grouping: accuracy a task.
fn print_groups(groups: &[GroupMetrics]) {
    let by = &groups[0].by;
    if groups.len() > MOST_GROUPS {
        let count = |which: fn(&GroupMetrics) -> bool| groups.iter().filter(|group| which(group)).count();
        let (empty, small) = (count(|g| g.n == 0), count(|g| g.small && g.n > 0));
        let n = groups.len();
        output::say!(
            "\n{by}: {n} groups, {small} of them small (below {SMALL_GROUP} samples), {empty} without samples"
        );
        return;
    }
    let rows = groups.iter().map(|group| {
        let name = if group.small { format!("{} (small)", group.group) } else { group.group.clone() };
        let accuracy = group.tasks.each(|_, task| match (&task.metrics, task.accuracy_interval) {
            (Some(metrics), Some(interval)) => {
                format!("{} ({})", percent(metrics.accuracy), ends(&interval))
            }
            _ => "-".to_owned(),
        });
        [name, group.n.to_string()].into_iter().chain(accuracy.into_values()).collect()
    });
    output::say!("\naccuracy by {by}, with 95 % intervals");
    let by = by.to_string();
    let tasks = groups[0].tasks.names().map(TaskName::as_str);
    let header: Vec<&str> = [by.as_str(), "n"].into_iter().chain(tasks).collect();
    output::say!("{}", table(&header, &rows.collect::<Vec<_>>()));
}

/// How far the groups of one grouping lie apart: small ones do not count where there are others.
fn print_disparities(record: &EvaluationRecord, groups: &[GroupMetrics]) {
    let by = &groups[0].by;
    let of = |over| record.disparities.iter().find(|d| d.by == *by && d.over == over);
    let Some(Disparities { over, n_groups, tasks, .. }) = of(Over::Large).or_else(|| of(Over::All)) else {
        return;
    };
    let rows = tasks.iter().map(|(task, d)| {
        let worst = format!("{} {}", d.worst_group, percent(d.worst_accuracy));
        let parity = d.parity_and_odds.as_ref().map(|p| &p.demographic_parity_difference);
        let odds = d.parity_and_odds.as_ref().map(|p| &p.equalized_odds_difference);
        let [parity, odds] = [parity, odds].map(|estimate| estimate.map_or("-".to_owned(), difference));
        vec![task.to_string(), worst, difference(&d.accuracy_difference), parity, odds]
    });
    let which = match over {
        Over::All if groups.iter().any(|group| group.small && group.n > 0) => {
            ", small groups included".to_owned()
        }
        Over::All => String::new(),
        Over::Large => format!(" among the {n_groups} groups that are not small"),
    };
    output::say!("\nlargest differences by {by}{which}, in points, with 95 % intervals");
    let header = ["task", "worst group", "accuracy", "demographic parity", "equalized odds"];
    output::say!("{}", table(&header, &rows.collect::<Vec<_>>()));
}

/// A difference in percentage points.
fn difference(estimate: &Estimate) -> String {
    let value = points(estimate.value);
    match &estimate.interval {
        Some(interval) => format!("{value} ({})", ends(interval)),
        None => value,
    }
}

/// An interval in percentage points.
fn ends(interval: &Interval) -> String {
    format!("{}-{}", points(interval.low), points(interval.high))
}
