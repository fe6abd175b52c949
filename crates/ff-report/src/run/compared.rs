//! Runs in the same charts, as far as they have come: for somebody who watches.
//!
//! Read from `metrics.jsonl` alone, so that it can be done every few seconds.

use ff_core::TaskName;
use ff_train::records::EpochRecord;
use ff_train::run::RunDir;
use maud::{Markup, html};

use super::curves::{epoch_point, line, point, spread_point};
use super::{Bucket, read, series};
use crate::Result;
use crate::charts::{Color, Line, LineChart, Point, Stroke, Unit};
use crate::numbers::{figure as number, percent};
use crate::page::{figure, grid};

/// What a run has recorded so far.
#[derive(Debug, Clone)]
pub struct RunCurves {
    /// What it is called beside the others.
    pub name: String,
    series: Vec<Bucket>,
    epochs: Vec<EpochRecord>,
}

impl RunCurves {
    /// Reads what is recorded; a run that has not begun has recorded nothing.
    ///
    /// # Errors
    /// The records cannot be read or are damaged.
    pub fn read(name: impl Into<String>, run: &RunDir) -> Result<Self> {
        let read::Records { steps, epochs, .. } = read::records(run.path())?;
        Ok(Self { name: name.into(), series: series::thin(&steps), epochs })
    }

    fn tasks(&self) -> impl Iterator<Item = &TaskName> {
        let of_epochs = self.epochs.last().into_iter().flat_map(|epoch| epoch.val.names());
        self.series.last().into_iter().flat_map(|bucket| bucket.losses.names()).chain(of_epochs)
    }
}

/// Losses, accuracies, learning rate and speed of some runs, a line a run.
pub fn compared_curves(runs: &[RunCurves]) -> Markup {
    let mut tasks: Vec<&TaskName> = Vec::new();
    for task in runs.iter().flat_map(RunCurves::tasks) {
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    // A band a run would hide the others.
    let train_loss = |bucket: &Bucket| match runs {
        [_] => spread_point(bucket, bucket.loss, "loss"),
        _ => point(bucket, bucket.loss.mean, format!("loss {}", number(bucket.loss.mean))),
    };
    let val_loss = |epoch: &EpochRecord| {
        let loss = epoch.val.values().map(|metrics| metrics.nll).sum();
        Some(epoch_point(epoch, "validation loss", number, loss))
    };
    let rate = |bucket: &Bucket| point(bucket, bucket.lr, format!("learning rate {}", number(bucket.lr)));
    let speed = |bucket: &Bucket| {
        point(bucket, bucket.images_per_s, format!("{} images/s", number(bucket.images_per_s)))
    };
    let of_steps = |title, y_label, value: &dyn Fn(&Bucket) -> Point| {
        chart(title, y_label, Unit::Number, runs, &|run| run.series.iter().map(value).collect())
    };
    let of_epochs = |title, y_label, unit, value: &dyn Fn(&EpochRecord) -> Option<Point>| {
        chart(title, y_label, unit, runs, &|run| run.epochs.iter().filter_map(value).collect())
    };
    let mut figures = vec![
        ("loss", "Training loss, all tasks".to_owned(), of_steps("Training loss", "loss, nats", &train_loss)),
        (
            "val-loss",
            "Validation loss, all tasks".to_owned(),
            of_epochs("Validation loss", "loss, nats", Unit::Number, &val_loss),
        ),
    ];
    for task in tasks {
        let accuracy = |epoch: &EpochRecord| {
            Some(epoch_point(epoch, "accuracy", percent, epoch.val.get(task.as_str())?.accuracy))
        };
        let svg = of_epochs("Validation accuracy", "accuracy", Unit::Share, &accuracy);
        figures.push(("accuracy", format!("Accuracy, {task}"), svg));
    }
    figures.push(("rate", "Learning rate".to_owned(), of_steps("Learning rate", "learning rate", &rate)));
    figures.push((
        "speed",
        "Training speed".to_owned(),
        of_steps("Training speed", "images a second", &speed),
    ));
    let figures: Vec<Markup> = figures
        .iter()
        .enumerate()
        .map(|(i, (id, heading, svg))| figure(&format!("fig-{id}-{i}"), heading, svg))
        .collect();
    html! { (grid(&figures)) }
}

fn chart(
    title: &str,
    y_label: &str,
    y_unit: Unit,
    runs: &[RunCurves],
    points: &dyn Fn(&RunCurves) -> Vec<Point>,
) -> Markup {
    let name = |run: &'_ RunCurves| if runs.len() == 1 { String::new() } else { run.name.clone() };
    let names: Vec<String> = runs.iter().map(name).collect();
    let of_run = |(i, run): (usize, &RunCurves)| -> Line<'_> {
        line(&names[i], Color::Task(i), Stroke::Solid, points(run))
    };
    let lines: Vec<Line<'_>> = runs.iter().enumerate().map(of_run).collect();
    let (x_label, x_unit) = ("step", Unit::Count);
    LineChart { title, x_label, x_unit, y_label, y_unit, cover: &[0.0], lines, marker: None }.svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = r#"{"kind":"step","epoch":1,"step":1,"loss":3.0,"losses":{"age":1.0},"lr":0.1,"grad_norm":2.0,"images":4,"seconds":0.5}"#;

    #[test]
    fn runs_stand_in_the_same_charts_and_one_that_has_not_begun_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, metrics: Option<&str>| {
            let path = dir.path().join(name);
            fs_err::create_dir(&path).unwrap();
            fs_err::write(path.join("config.toml"), "").unwrap();
            if let Some(metrics) = metrics {
                fs_err::write(path.join("metrics.jsonl"), metrics).unwrap();
            }
            RunCurves::read(name, &RunDir::open(&path).unwrap()).unwrap()
        };
        let second = STEP.replace("\"step\":1", "\"step\":2").replace("3.0", "2.0");
        let (a, b) = (run("a<i>", Some(&format!("{STEP}\n{second}\n{{\"ki"))), run("b", None));
        let page = compared_curves(&[a.clone(), b]).into_string();
        assert!(page.contains("step 2: loss 2") && page.contains("a&lt;i&gt;"), "{page}");
        assert!(page.contains("Accuracy, age") && page.contains("nothing recorded yet"), "{page}");
        let alone = compared_curves(&[a]).into_string();
        assert!(!alone.contains("a&lt;i&gt;") && alone.matches("<figure").count() == 5, "{alone}");
    }
}
