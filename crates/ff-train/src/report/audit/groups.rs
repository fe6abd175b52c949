//! Groups beside each other: gaps, bars with intervals, the worst intersections, a confusion matrix a group.

use ff_data::Task;

use super::Audit;
use crate::evaluation::{Disparities, Estimate, GroupMetrics, Grouping, Interval, Over, SMALL_GROUP};
use crate::report::charts::{Bar, BarChart, Color, Unit};
use crate::report::findings::capital;
use crate::report::numbers::{NONE, grouped, percent};
use crate::report::page::{figure, grid, more, table};

/// Intersections listed a task.
const N_WORST: usize = 8;

/// Tasks in which a group of another attribute does worse than another by more than chance explains: their intervals
/// do not overlap.
pub fn findings(audit: &Audit) -> Vec<String> {
    let mut found = Vec::new();
    for by in Task::ALL {
        for task in Task::ALL.into_iter().filter(|&task| task != by) {
            let shares = groups(audit, |grouping| grouping.attributes() == [by])
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
                format!(
                    "{accuracy} ({} to {}) for {}",
                    percent(interval.low),
                    percent(interval.high),
                    group.group
                )
            };
            found.push(format!(
                "{}, {} by {by}: accuracy is {}, but {}.",
                audit.heading(),
                task,
                share(worst, low),
                share(best, high)
            ));
        }
    }
    found
}

/// How far the groups lie apart, a row a grouping and task.
pub fn gaps(audit: &Audit) -> String {
    let record = &audit.record;
    // Where there are small groups, the comparison of the others is the one that says something.
    let comparable = |d: &&Disparities| {
        let has_large = record.disparities.iter().any(|other| other.by == d.by && other.over == Over::Large);
        is_single(&d.by) && (d.over == Over::Large || !has_large)
    };
    let rows = record.disparities.iter().filter(comparable).flat_map(|d| {
        Task::ALL.map(|task| {
            let gap = &d.tasks[task];
            let fairness = gap.parity_and_odds.as_ref();
            vec![
                format!("{task} by {}", d.by),
                format!("{} {}", gap.worst_group, percent(gap.worst_accuracy)),
                format!("{} {}", gap.best_group, percent(gap.best_accuracy)),
                estimate(&gap.accuracy_difference),
                gap.accuracy_ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
                fairness.map_or(String::new(), |f| estimate(&f.demographic_parity_difference)),
                fairness.map_or(String::new(), |f| estimate(&f.equalized_odds_difference)),
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let header =
        ["", "worst group", "best group", "difference", "ratio", "demographic parity", "equalized odds"];
    let note = format!(
        "<p>Accuracy of the worst and the best group; largest differences in selection rate (demographic parity) and in \
         true- and false-positive rate (equalized odds) over the classes. Groups of fewer than {SMALL_GROUP} are left \
         out where two others remain. Brackets: 95 % of {} resamples.</p>\n",
        grouped(u64::from(record.bootstrap.resamples))
    );
    format!("<h3>How far groups lie apart</h3>\n{note}{}", table(&header, &rows))
}

fn estimate(estimate: &Estimate) -> String {
    let interval = estimate.interval.map(|i| format!(" [{:.1}, {:.1}]", 100.0 * i.low, 100.0 * i.high));
    percent(estimate.value) + &interval.unwrap_or_default()
}

/// Accuracy of every group of one attribute.
pub fn bars(audit: &Audit) -> String {
    let mut body = String::new();
    for by in Task::ALL {
        let groups: Vec<&GroupMetrics> = groups(audit, |grouping| grouping.attributes() == [by]).collect();
        if groups.is_empty() {
            continue;
        }
        let figures = Task::ALL.map(|task| {
            let title = format!("Accuracy of {task} by {by}, {}", audit.name);
            let chart = BarChart {
                title: &title,
                label: "accuracy",
                unit: Unit::Share,
                color: Color::Task(task),
                bars: groups.iter().map(|group| bar(group, task)).collect(),
                reference: Some((audit.record.evaluation.tasks[task].accuracy, "all")),
            };
            figure(
                &audit.id(&format!("groups-{by}-{task}")),
                &format!("{} by {by}", capital(task)),
                &chart.svg(),
            )
        });
        body += &grid(&figures);
    }
    if body.is_empty() {
        return body;
    }
    format!(
        "<h3>Accuracy by group</h3>\n<p>Whiskers are 95 % intervals (Wilson), n is the number of images; groups of fewer \
         than {SMALL_GROUP} have a star. By its own labels, a task's accuracy is the recall of each.</p>\n{body}"
    )
}

fn bar(group: &GroupMetrics, task: Task) -> Bar {
    let figures = &group.tasks[task];
    let star = if group.small { "*" } else { "" };
    Bar {
        label: group.group.clone(),
        value: accuracy(group, task).unwrap_or(0.0),
        interval: figures.accuracy_interval.map(|i| (i.low, i.high)),
        note: format!("n {}{star}", grouped(group.n)),
    }
}

/// The crossed groups with the lowest accuracy.
pub fn worst_intersections(audit: &Audit) -> String {
    let crossed: Vec<&GroupMetrics> =
        groups(audit, |by| !is_single(by)).filter(|group| !group.small).collect();
    if crossed.is_empty() {
        return String::new();
    }
    let rows = Task::ALL.into_iter().flat_map(|task| {
        let mut worst: Vec<_> =
            crossed.iter().filter(|group| !group.by.attributes().contains(&task)).copied().collect();
        let share = |group: &GroupMetrics| accuracy(group, task).unwrap_or(f64::INFINITY);
        worst.sort_by(|a, b| share(a).total_cmp(&share(b)));
        worst.truncate(N_WORST);
        worst.into_iter().map(move |group| row(group, task))
    });
    let rows: Vec<_> = rows.collect();
    let note = format!("<p>Of {SMALL_GROUP} images or more, at most {N_WORST} a task.</p>\n");
    let table = table(&["", "group", "n", "accuracy", "95 % interval"], &rows);
    format!("<h3>Intersections with the lowest accuracy</h3>\n{note}{table}")
}

fn row(group: &GroupMetrics, task: Task) -> Vec<String> {
    let figures = &group.tasks[task];
    let interval = figures.accuracy_interval.map(|i| format!("{} to {}", percent(i.low), percent(i.high)));
    let accuracy = accuracy(group, task).map_or_else(|| NONE.to_owned(), percent);
    vec![task.to_string(), group.group.clone(), grouped(group.n), accuracy, interval.unwrap_or_default()]
}

/// A confusion matrix a task and group, folded away. By a task's own labels there would be one row in each.
pub fn confusions(audit: &Audit) -> String {
    let mut body = String::new();
    for by in Task::ALL {
        for task in Task::ALL.into_iter().filter(|&task| task != by) {
            let figures: Vec<String> = groups(audit, |grouping| grouping.attributes() == [by])
                .enumerate()
                .filter(|(_, group)| group.n > 0)
                .map(|(i, group)| {
                    let title = format!("Confusion matrix of {task}, {}, {}", group.group, audit.name);
                    let heat = super::heat_map(audit, task, &title, &group.tasks[task].confusion);
                    figure(&audit.id(&format!("confusion-{task}-{by}-{i}")), &group.group, &heat.svg())
                })
                .collect();
            if !figures.is_empty() {
                body += &more(&format!("{} by {by}", capital(task)), &grid(&figures));
            }
        }
    }
    if body.is_empty() { body } else { format!("<p>The same for every group:</p>\n{body}") }
}

fn groups<'a>(
    audit: &'a Audit,
    wanted: impl Fn(&Grouping) -> bool + 'a,
) -> impl Iterator<Item = &'a GroupMetrics> {
    audit.record.evaluation.groups.iter().filter(move |group| wanted(&group.by))
}

/// A group's accuracy in a task, if the group has samples.
fn accuracy(group: &GroupMetrics, task: Task) -> Option<f64> {
    group.tasks[task].metrics.as_ref().map(|metrics| metrics.accuracy)
}

fn is_single(by: &Grouping) -> bool {
    by.attributes().len() == 1
}
