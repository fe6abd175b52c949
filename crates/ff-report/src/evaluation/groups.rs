//! Groups beside each other: gaps, bars with intervals, the worst intersections, a confusion matrix a group.

use ff_core::TaskName;
use ff_eval::{Disparities, Estimate, GroupMetrics, Grouping, Interval, Over, SMALL_GROUP};
use maud::{Markup, html};

use super::NamedEvaluation;
use crate::charts::{Bar, BarChart, Unit};
use crate::numbers::{NONE, fixed, grouped, percent, points, range};
use crate::page::{capital, figure, grid, more, table};

/// Intersections listed a task.
const N_WORST: usize = 8;

/// Tasks in which a group of another attribute does worse than another by more than chance explains: their intervals
/// do not overlap.
pub fn findings(evaluation: &NamedEvaluation) -> Vec<String> {
    let mut found = Vec::new();
    for groups in single_groupings(evaluation) {
        let by = &groups[0].by;
        for task in other_tasks(evaluation, by) {
            let shares = groups
                .iter()
                .filter(|group| !group.small)
                .filter_map(|group| group.tasks[task].accuracy_interval.map(|interval| (group, interval)));
            let shares: Vec<_> = shares.collect();
            let worst = shares.iter().min_by(|a, b| a.1.high.total_cmp(&b.1.high));
            let best = shares.iter().max_by(|a, b| a.1.low.total_cmp(&b.1.low));
            let Some(((worst, low), (best, high))) = worst.zip(best).filter(|(w, b)| w.1.high < b.1.low)
            else {
                continue;
            };
            let share = |group: &GroupMetrics, interval: &Interval| {
                let accuracy = accuracy(group, task).map_or_else(|| NONE.to_owned(), percent);
                let interval = range((interval.low, interval.high), percent);
                format!("{accuracy} ({interval}) for {}", group.group)
            };
            let (low, high) = (share(worst, low), share(best, high));
            found.push(format!("{task} by {by}: accuracy is {low}, but {high}."));
        }
    }
    found
}

/// The columns of [`NamedEvaluation::gap_rows`].
pub const GAP_COLUMNS: [&str; 7] =
    ["", "worst group", "best group", "difference", "ratio", "demographic parity", "equalized odds"];

/// How far the groups lie apart, a row a grouping and task.
pub fn gap_rows(evaluation: &NamedEvaluation) -> Vec<Vec<String>> {
    let record = &evaluation.record;
    // Where there are small groups, the comparison of the others is the one that says something.
    let comparable = |d: &&Disparities| {
        let has_large = record.disparities.iter().any(|other| other.by == d.by && other.over == Over::Large);
        is_single(&d.by) && (d.over == Over::Large || !has_large)
    };
    let rows = record.disparities.iter().filter(comparable).flat_map(|d| {
        d.tasks.iter().map(|(task, gap)| {
            let fairness = gap.parity_and_odds.as_ref();
            vec![
                format!("{task} by {}", d.by),
                format!("{} {}", gap.worst_group, percent(gap.worst_accuracy)),
                format!("{} {}", gap.best_group, percent(gap.best_accuracy)),
                estimate(&gap.accuracy_difference),
                gap.accuracy_ratio.map_or(String::new(), |ratio| fixed(ratio, 2)),
                fairness.map_or(String::new(), |f| estimate(&f.demographic_parity_difference)),
                fairness.map_or(String::new(), |f| estimate(&f.equalized_odds_difference)),
            ]
        })
    });
    rows.collect()
}

/// How far the groups lie apart.
pub fn gaps(evaluation: &NamedEvaluation) -> Markup {
    let (rows, record) = (gap_rows(evaluation), &evaluation.record);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        h3 { "How far groups lie apart" }
        p {
            "Accuracy of the worst and the best group; largest differences in selection rate (demographic parity) and in \
             true- and false-positive rate (equalized odds) over the classes. Groups of fewer than " (SMALL_GROUP)
            " are left out where two others remain. Brackets: 95 % of " (grouped(u64::from(record.bootstrap.resamples)))
            " resamples."
        }
        (table(&GAP_COLUMNS, &rows))
    }
}

fn estimate(estimate: &Estimate) -> String {
    let interval = estimate.interval.map(|i| format!(" [{}, {}]", points(i.low), points(i.high)));
    percent(estimate.value) + &interval.unwrap_or_default()
}

/// Accuracy of every group of one attribute.
pub fn bars(evaluation: &NamedEvaluation) -> Markup {
    let grids = single_groupings(evaluation).map(|groups| {
        let by = &groups[0].by;
        let figures = evaluation.tasks().map(|task| {
            let title = format!("Accuracy of {task} by {by}, {}", evaluation.name);
            let chart = BarChart {
                title: &title,
                label: "accuracy",
                unit: Unit::Share,
                color: evaluation.color(task),
                bars: groups.iter().map(|group| bar(group, task)).collect(),
                reference: Some((evaluation.record.evaluation.tasks[task].accuracy, "all")),
            };
            let id = evaluation.id(&format!("groups-{by}-{task}"));
            figure(&id, &format!("{} by {by}", capital(task.as_str())), &chart.svg())
        });
        grid(&figures.collect::<Vec<_>>())
    });
    let grids: Vec<Markup> = grids.collect();
    if grids.is_empty() {
        return html! {};
    }
    html! {
        h3 { "Accuracy by group" }
        p {
            "Whiskers are 95 % intervals (Wilson), n is the number of images; groups of fewer than " (SMALL_GROUP)
            " have a star. By its own labels, a task's accuracy is the recall of each."
        }
        @for grid in &grids { (grid) }
    }
}

fn bar(group: &GroupMetrics, task: &TaskName) -> Bar {
    let figures = &group.tasks[task];
    let star = if group.small { "*" } else { "" };
    Bar {
        label: group.group.clone(),
        value: accuracy(group, task).unwrap_or(0.0),
        interval: figures.accuracy_interval.map(|i| (i.low, i.high)),
        note: format!("n {}{star}", grouped(group.n)),
    }
}

/// The columns of [`NamedEvaluation::intersection_rows`].
pub const INTERSECTION_COLUMNS: [&str; 5] = ["", "group", "n", "accuracy", "95 % interval"];

/// The crossed groups with the lowest accuracy, at most [`N_WORST`] a task.
pub fn intersection_rows(evaluation: &NamedEvaluation) -> Vec<Vec<String>> {
    let groups = evaluation.record.evaluation.groups.iter();
    let crossed: Vec<&GroupMetrics> = groups.filter(|group| !is_single(&group.by) && !group.small).collect();
    let rows = evaluation.tasks().flat_map(|task| {
        let mut worst: Vec<_> =
            crossed.iter().filter(|group| !is_made_by(&group.by, task)).copied().collect();
        let share = |group: &GroupMetrics| accuracy(group, task).unwrap_or(f64::INFINITY);
        worst.sort_by(|a, b| share(a).total_cmp(&share(b)));
        worst.truncate(N_WORST);
        worst.into_iter().map(move |group| row(group, task))
    });
    rows.collect()
}

/// The crossed groups with the lowest accuracy.
pub fn worst_intersections(evaluation: &NamedEvaluation) -> Markup {
    let rows = intersection_rows(evaluation);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        h3 { "Intersections with the lowest accuracy" }
        p { "Of " (SMALL_GROUP) " images or more, at most " (N_WORST) " a task." }
        (table(&INTERSECTION_COLUMNS, &rows))
    }
}

fn row(group: &GroupMetrics, task: &TaskName) -> Vec<String> {
    let interval = group.tasks[task].accuracy_interval.map(|i| range((i.low, i.high), percent));
    let accuracy = accuracy(group, task).map_or_else(|| NONE.to_owned(), percent);
    vec![task.to_string(), group.group.clone(), grouped(group.n), accuracy, interval.unwrap_or_default()]
}

/// A confusion matrix a task and group, folded away. By a task's own labels there would be one row in each.
pub fn confusions(evaluation: &NamedEvaluation) -> Markup {
    let mut folded = Vec::new();
    for groups in single_groupings(evaluation) {
        let by = &groups[0].by;
        for task in other_tasks(evaluation, by) {
            let figures: Vec<Markup> = groups
                .iter()
                .enumerate()
                .filter(|(_, group)| group.n > 0)
                .map(|(i, group)| {
                    let title = format!("Confusion matrix of {task}, {}, {}", group.group, evaluation.name);
                    let heat = super::heat_map(evaluation, task, &title, &group.tasks[task].confusion);
                    figure(&evaluation.id(&format!("confusion-{task}-{by}-{i}")), &group.group, &heat.svg())
                })
                .collect();
            if !figures.is_empty() {
                folded.push(more(format!("{} by {by}", capital(task.as_str())), &grid(&figures)));
            }
        }
    }
    if folded.is_empty() {
        return html! {};
    }
    html! { p { "The same for every group:" } @for figures in &folded { (figures) } }
}

/// The groups by one attribute each, attribute after attribute.
pub fn single_groupings(evaluation: &NamedEvaluation) -> impl Iterator<Item = &[GroupMetrics]> {
    evaluation
        .record
        .evaluation
        .groups
        .chunk_by(|a, b| a.by == b.by)
        .filter(|groups| is_single(&groups[0].by))
}

/// The tasks whose labels do not make the groups.
fn other_tasks<'a>(evaluation: &'a NamedEvaluation, by: &'a Grouping) -> impl Iterator<Item = &'a TaskName> {
    evaluation.tasks().filter(|task| !is_made_by(by, task))
}

fn is_made_by(by: &Grouping, task: &TaskName) -> bool {
    by.attributes().iter().any(|attribute| *attribute == task.as_str())
}

/// A group's accuracy in a task, if the group has samples.
fn accuracy(group: &GroupMetrics, task: &TaskName) -> Option<f64> {
    group.tasks[task].metrics.as_ref().map(|metrics| metrics.accuracy)
}

fn is_single(by: &Grouping) -> bool {
    by.attributes().len() == 1
}
