//! What several runs of the same training come to: mean, deviation and standard error of every figure.
//!
//! The runs differ in their seed alone, so the deviation says how much of a figure is luck of the seed: of initial
//! values, order and augmentation. It says nothing of the samples, which are the same in all runs.

use ff_core::{PerTask, TaskName};
use serde::{Deserialize, Serialize};

use crate::{Figure, TaskMetrics};

/// A figure of a task over several runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FigureOverRuns {
    /// The task.
    pub task: TaskName,
    /// The figure.
    pub figure: Figure,
    /// Mean over the runs.
    pub mean: f64,
    /// Sample standard deviation, with n - 1; `None` of a single run.
    pub deviation: Option<f64>,
    /// Standard error of the mean: the deviation by the square root of n.
    pub standard_error: Option<f64>,
    /// Runs that the figure is defined in.
    pub n: usize,
}

/// Every figure of every task over these runs, task by task. A figure that no run defines is left out.
pub fn over_runs(runs: &[&PerTask<TaskMetrics>]) -> Vec<FigureOverRuns> {
    let tasks = runs.first().into_iter().flat_map(|run| run.names());
    let figures = tasks.flat_map(|task| Figure::OF_SAMPLES.map(|figure| (task, figure)));
    let over = |(task, figure): (&TaskName, Figure)| {
        let values = runs.iter().filter_map(|run| figure.of(run.get(task.as_str())?)).collect::<Vec<f64>>();
        let (mean, deviation) = mean_and_deviation(&values)?;
        let standard_error = deviation.map(|deviation| deviation / (values.len() as f64).sqrt());
        Some(FigureOverRuns { task: task.clone(), figure, mean, deviation, standard_error, n: values.len() })
    };
    figures.filter_map(over).collect()
}

/// The mean of values and their sample standard deviation, with n - 1: `None` without values; no deviation of one.
pub fn mean_and_deviation(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    // From the mean, not from a sum of squares, which cancels where values lie close together.
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    match values.len() {
        0 => None,
        1 => Some((mean, None)),
        _ => Some((mean, Some((squares / (n - 1.0)).sqrt()))),
    }
}

#[cfg(test)]
mod tests {
    use ff_core::Schema;

    use super::*;

    fn run(accuracy: f64, one_off: f64, nll: f64) -> PerTask<TaskMetrics> {
        let age = TaskMetrics { accuracy, one_off: Some(one_off), nll, ..TaskMetrics::UNDEFINED };
        let other = TaskMetrics { one_off: None, ..age.clone() };
        let tasks = Schema::fairface().names().cloned().zip([age, other.clone(), other]).collect::<Vec<_>>();
        tasks.into_iter().collect()
    }

    /// ```python
    /// from statistics import mean, stdev  # in exact fractions
    /// a = [0.408, 0.425, 0.342, 0.391, 0.4]
    /// print(mean(a), stdev(a), stdev(a) / len(a) ** 0.5)
    /// ```
    #[test]
    fn figures_are_those_of_pythons_statistics() {
        let accuracies = [0.408, 0.425, 0.342, 0.391, 0.4];
        let runs = accuracies.map(|accuracy| run(accuracy, 1.0 - accuracy, f64::NAN));
        let figures = over_runs(&runs.each_ref());
        let names: Vec<_> = figures.iter().map(|f| format!("{} {}", f.task, f.figure)).collect();
        assert_eq!(names, ["age accuracy", "age one_off", "gender accuracy", "race accuracy"]);
        for figure in &figures {
            let mean = if figure.figure == Figure::OneOff { 1.0 - PYTHON.0 } else { PYTHON.0 };
            assert!((figure.mean - mean).abs() < 1e-15, "{figure:?}");
            assert!((figure.deviation.unwrap() - PYTHON.1).abs() < 1e-15, "{figure:?}");
            assert!((figure.standard_error.unwrap() - PYTHON.2).abs() < 1e-15, "{figure:?}");
            assert_eq!(figure.n, 5);
        }
    }

    const PYTHON: (f64, f64, f64) = (0.3932, 0.031_236_196_951_613_667, 0.013_969_251_948_475_973);

    /// A squared sum would give 0, or the root of a negative number: the values agree in their first 12 digits.
    #[test]
    fn values_that_lie_close_together_keep_their_deviation() {
        let (mean, deviation) = mean_and_deviation(&[1e6 + 1e-3, 1e6 + 2e-3, 1e6 + 3e-3]).unwrap();
        assert!(
            (mean - 1e6 - 2e-3).abs() < 1e-9 && (deviation.unwrap() - 1e-3).abs() < 1e-9,
            "{deviation:?}"
        );
        assert_eq!(mean_and_deviation(&[0.25; 7]), Some((0.25, Some(0.0))));
    }

    #[test]
    fn what_is_not_defined_does_not_count() {
        assert_eq!(over_runs(&[]), []);
        let alone = run(0.5, 0.75, f64::NAN);
        let figures = over_runs(&[&alone]);
        assert_eq!((figures[0].mean, figures[0].deviation, figures[0].n), (0.5, None, 1));
        // One of three runs has no accuracy: scikit-learn would have said nan.
        let [a, b, c] = [run(0.5, 0.5, 1.0), run(f64::NAN, 0.5, 2.0), run(0.7, 0.5, 3.0)];
        let figures = over_runs(&[&a, &b, &c]);
        assert_eq!((figures[0].figure, figures[0].n, figures[1].n), (Figure::Accuracy, 2, 3));
        assert!((figures[0].mean - 0.6).abs() < 1e-15);
        let nll = figures.iter().find(|figure| figure.figure == Figure::Nll).unwrap();
        assert_eq!((nll.mean, nll.deviation), (2.0, Some(1.0)));
        let json = serde_json::to_value(nll).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["task", "figure", "mean", "deviation", "standard_error", "n"]);
        assert_eq!(serde_json::from_value::<FigureOverRuns>(json).unwrap(), *nll);
    }
}
