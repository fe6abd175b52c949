//! What a sweep has come to: every run, and every alternative beside the baseline.
//!
//! Differences are paired by seed. Two intervals stand beside each, as two things are luck: of the seeds, by Student's
//! t over the seeds' differences; of the validation faces, by a bootstrap of the differences' mean over the seeds,
//! face by face. Neither is corrected for how many alternatives there are.

use std::path::Path;

use ff_core::files::write_atomic;
use ff_core::table::quoted;
use ff_core::{PerTask, TaskName};
use ff_eval::{Bootstrap, Figure, Interval, TaskMetrics, mean_and_deviation};
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use crate::config::Criterion;
use crate::seeds::FinishedRun;
use crate::{Error, Result};

/// What a folder of a sweep has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// What the others are compared with.
    pub baseline: String,
    /// The seeds of every alternative.
    pub seeds: Vec<u64>,
    /// In the order of the file.
    pub alternatives: Vec<AlternativeRecord>,
    /// Accuracies: a row an alternative and task, those of the mean over the tasks first.
    pub table: Vec<Row>,
}

/// An alternative and its finished runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlternativeRecord {
    /// Its name and folder.
    pub name: String,
    /// Settings in which it differs from the baseline, as `train.epochs: 5 -> 2`.
    pub changes: Vec<String>,
    /// In the order of the seeds.
    pub runs: Vec<SweptRun>,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweptRun {
    /// What it came to.
    #[serde(flatten)]
    pub run: FinishedRun,
    /// Seconds of training and validation, without what a stop cost.
    pub seconds: f64,
}

/// An accuracy of an alternative over its runs, at their last epochs; of the weights' average where they keep one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The alternative.
    pub alternative: String,
    /// The task; `None` for the mean over all.
    pub task: Option<TaskName>,
    /// Mean over the runs.
    pub mean: f64,
    /// Sample standard deviation, with n - 1; `None` of a single run.
    pub deviation: Option<f64>,
    /// Runs.
    pub n: usize,
    /// How far it is from the baseline; `None` for itself, and without a seed in common.
    pub difference: Option<PairedDifference>,
}

/// An alternative less the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean over the seeds that both have.
    pub mean: f64,
    /// Sample standard deviation of the seeds' differences; `None` of a single one.
    pub deviation: Option<f64>,
    /// Seeds that both have.
    pub n: usize,
    /// 95 % interval of the mean over other seeds with the same faces; `None` of a single seed.
    pub of_seeds: Option<Interval>,
    /// 95 % interval of the mean over other faces with the same seeds.
    pub of_faces: Option<Interval>,
}

/// An alternative with what its runs get right, a run for each of its finished ones.
pub(super) type Swept = (AlternativeRecord, Vec<Answers>);

impl SweptRun {
    /// The figures of what the run is used by: the weights' average where it keeps one.
    pub fn figures(&self) -> &PerTask<TaskMetrics> {
        self.run.ema.as_ref().unwrap_or(&self.run.val)
    }

    fn accuracy(&self, task: Option<&TaskName>) -> f64 {
        match task {
            None => Criterion::Accuracy.score(self.figures()),
            Some(task) => self.figures().get(task.as_str()).map_or(f64::NAN, |figures| figures.accuracy),
        }
    }
}

impl SweepRecord {
    /// The file's name in the folder.
    pub const FILE: &'static str = "sweep.json";
    /// The table of runs, for other programs.
    pub const RUNS: &'static str = "results.csv";

    /// Reads the record of a folder.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let text = fs_err::read_to_string(&path)?;
        serde_json::from_str(&text).map_err(|e| Error::BadFile { path, message: e.to_string() })
    }

    /// Of these alternatives, of which the baseline is one.
    pub(super) fn new(baseline: usize, seeds: &[u64], swept: &[Swept], bootstrap: Bootstrap) -> Self {
        let with_runs = swept.iter().find_map(|(alternative, _)| alternative.runs.first());
        let tasks: Vec<TaskName> =
            with_runs.map_or_else(Vec::new, |run| run.figures().names().cloned().collect());
        let differences: Vec<Vec<Option<Interval>>> = swept
            .iter()
            .map(|alternative| of_faces(&swept[baseline], alternative, &tasks, bootstrap))
            .collect();
        let mut table = Vec::new();
        for (place, task) in std::iter::once(None).chain(tasks.iter().map(Some)).enumerate() {
            for ((alternative, _), of_faces) in swept.iter().zip(&differences) {
                let values: Vec<f64> = alternative.runs.iter().map(|run| run.accuracy(task)).collect();
                let Some((mean, deviation)) = mean_and_deviation(&values) else { continue };
                let base = &swept[baseline].0;
                let difference = (alternative.name != base.name)
                    .then(|| difference(base, alternative, task, of_faces.get(place).copied().flatten()))
                    .flatten();
                let (alternative, task, n) = (alternative.name.clone(), task.cloned(), values.len());
                table.push(Row { alternative, task, mean, deviation, n, difference });
            }
        }
        Self {
            baseline: swept[baseline].0.name.clone(),
            seeds: seeds.to_owned(),
            alternatives: swept.iter().map(|(alternative, _)| alternative.clone()).collect(),
            table,
        }
    }

    /// Writes the record and the table of runs, in which `settings` are each alternative's values of the settings that
    /// differ among them.
    pub(super) fn write(&self, folder: &Path, settings: &[(String, Vec<String>)]) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a record is JSON");
        write_atomic(&folder.join(Self::FILE), format!("{text}\n").as_bytes())?;
        Ok(write_atomic(&folder.join(Self::RUNS), self.runs_csv(settings).as_bytes())?)
    }

    /// A line a run.
    fn runs_csv(&self, settings: &[(String, Vec<String>)]) -> String {
        let runs = self.alternatives.iter().enumerate();
        let runs: Vec<_> = runs.flat_map(|(i, a)| a.runs.iter().map(move |run| (i, &a.name, run))).collect();
        let mut header: Vec<String> =
            ["alternative", "seed", "steps", "epochs", "seconds", "train_loss", "accuracy"]
                .map(Into::into)
                .into();
        let first = runs.first().map(|(_, _, run)| run.figures());
        let figures: Vec<(&TaskName, Figure)> = first
            .into_iter()
            .flat_map(|figures| figures.names())
            .flat_map(|task| Figure::OF_SAMPLES.map(|figure| (task, figure)))
            .collect();
        header.extend(figures.iter().map(|(task, figure)| format!("{task}_{figure}")));
        header.extend(settings.iter().map(|(key, _)| key.clone()));
        let number =
            |value: Option<f64>| value.filter(|x| x.is_finite()).map_or(String::new(), |x| x.to_string());
        let line = |(i, name, run): &(usize, &String, &SweptRun)| {
            let SweptRun { run: FinishedRun { seed, steps, epochs, train_loss, .. }, seconds } = run;
            let mut fields = vec![(*name).clone(), seed.to_string(), steps.to_string(), epochs.to_string()];
            fields.extend([Some(*seconds), *train_loss, Some(run.accuracy(None))].map(number));
            let figure = |(task, figure): &(&TaskName, Figure)| {
                number(run.figures().get(task.as_str()).and_then(|metrics| figure.of(metrics)))
            };
            fields.extend(figures.iter().map(figure));
            fields.extend(settings.iter().map(|(_, values)| values[*i].clone()));
            fields
        };
        let lines = std::iter::once(header).chain(runs.iter().map(line));
        let text =
            |fields: Vec<String>| fields.iter().map(|f| quoted(f)).collect::<Vec<_>>().join(",") + "\n";
        lines.map(text).collect()
    }
}

fn difference(
    base: &AlternativeRecord,
    alternative: &AlternativeRecord,
    task: Option<&TaskName>,
    of_faces: Option<Interval>,
) -> Option<PairedDifference> {
    let values: Vec<f64> = pairs(base, alternative)
        .map(|(a, b)| alternative.runs[b].accuracy(task) - base.runs[a].accuracy(task))
        .collect();
    let (mean, deviation) = mean_and_deviation(&values)?;
    let of_seeds = deviation.map(|deviation| {
        let half = t_quantile(values.len() - 1) * deviation / (values.len() as f64).sqrt();
        Interval { low: mean - half, high: mean + half }
    });
    Some(PairedDifference { mean, deviation, n: values.len(), of_seeds, of_faces })
}

/// Places of the runs of the same seed.
fn pairs<'a>(
    base: &'a AlternativeRecord,
    alternative: &'a AlternativeRecord,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let of_seed = |run: &SweptRun| base.runs.iter().position(|of_base| of_base.run.seed == run.run.seed);
    alternative.runs.iter().enumerate().filter_map(move |(b, run)| Some((of_seed(run)?, b)))
}

/// Intervals over faces of the mean over the tasks, then of each; none where the runs were not asked of the same faces.
fn of_faces(
    base: &Swept,
    alternative: &Swept,
    tasks: &[TaskName],
    bootstrap: Bootstrap,
) -> Vec<Option<Interval>> {
    let pairs: Vec<_> = pairs(&base.0, &alternative.0)
        .filter_map(|(a, b)| Some((base.1.get(a)?, alternative.1.get(b)?)))
        .collect();
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let n = first.files.len();
    if base.0.name == alternative.0.name
        || pairs.iter().any(|(a, b)| a.files != first.files || b.files != first.files)
    {
        return Vec::new();
    }
    // How many more seeds get a face right, a task; nothing where its label is not known.
    let more: Vec<Vec<Option<f64>>> = tasks
        .iter()
        .map(|task| {
            let of_face = |i: usize| {
                let of_pair = |(a, b): &(&Answers, &Answers)| {
                    let of = |answers: &Answers| {
                        Some(f64::from(u8::from(answers.correct.get(task.as_str())?[i]?)))
                    };
                    Some(of(b)? - of(a)?)
                };
                let sum: Option<f64> = pairs.iter().map(of_pair).sum();
                Some(sum? / pairs.len() as f64)
            };
            (0..n).map(of_face).collect()
        })
        .collect();
    bootstrap.intervals(n, |times| {
        let of_task = |more: &Vec<Option<f64>>| {
            let known = more
                .iter()
                .zip(times)
                .filter_map(|(more, &times)| Some((*more)?).zip(Some(f64::from(times))));
            let (sum, n) = known.fold((0.0, 0.0), |(sum, n), (more, times)| (sum + more * times, n + times));
            (n > 0.0).then(|| sum / n)
        };
        let of_tasks: Vec<Option<f64>> = more.iter().map(of_task).collect();
        let known: Vec<f64> = of_tasks.iter().flatten().copied().collect();
        let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        std::iter::once(mean).chain(of_tasks).collect()
    })
}

/// The 97.5 % quantile of Student's t, to three digits; the normal's from 31 degrees of freedom on, which is off by
/// less than 5 %.
fn t_quantile(degrees_of_freedom: usize) -> f64 {
    const QUANTILES: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    degrees_of_freedom.checked_sub(1).and_then(|i| QUANTILES.get(i)).copied().unwrap_or(1.96)
}

#[cfg(test)]
mod tests {
    use ff_core::Schema;

    use super::*;

    const FACES: usize = 200;

    /// A run that gets these faces right, and the same share in every task.
    fn run(seed: u64, correct: impl Fn(usize) -> bool) -> (SweptRun, Answers) {
        let right: Vec<Option<bool>> = (0..FACES).map(|i| (i % 10 != 0).then(|| correct(i))).collect();
        let known = right.iter().flatten();
        let accuracy = known.clone().filter(|right| **right).count() as f64 / known.count() as f64;
        let val = Schema::fairface().per_task(|_| TaskMetrics { accuracy, ..TaskMetrics::UNDEFINED });
        let correct = Schema::fairface().per_task(|_| right.clone());
        let run = FinishedRun {
            seed,
            run: format!("seed-{seed}"),
            steps: 9,
            epochs: 3,
            stopped_early: false,
            skipped_steps: 0,
            train_loss: Some(2.5),
            val,
            ema: None,
        };
        (
            SweptRun { run, seconds: 60.0 },
            Answers { files: (0..FACES).map(|i| i.to_string()).collect(), correct },
        )
    }

    fn swept(name: &str, runs: Vec<(SweptRun, Answers)>) -> Swept {
        let (runs, answers) = runs.into_iter().unzip();
        (AlternativeRecord { name: name.to_owned(), changes: Vec::new(), runs }, answers)
    }

    fn record() -> SweepRecord {
        let base = |seed: u64| run(seed, move |i| i % 2 == 1 || i as u64 % 7 == seed);
        let better =
            |seed: u64, more: usize| run(seed, move |i| i % 2 == 1 || i as u64 % 7 == seed || i % more == 2);
        let all = [
            swept("plain", vec![base(1), base(2), base(3)]),
            swept("better", vec![better(3, 4), better(1, 5), better(9, 5)]),
            swept("none", vec![]),
        ];
        SweepRecord::new(0, &[1, 2, 3], &all, Bootstrap::default())
    }

    /// ```python
    /// import numpy as np, scipy.stats as st
    /// known = np.array([i for i in range(200) if i % 10])
    /// base = lambda s: ((known % 2 == 1) | (known % 7 == s)).mean()
    /// better = lambda s, m: ((known % 2 == 1) | (known % 7 == s) | (known % m == 2)).mean()
    /// d = np.array([better(3, 4) - base(3), better(1, 5) - base(1)])
    /// print(base(1), d.mean(), d.std(ddof=1), st.t.interval(0.95, 1, d.mean(), st.sem(d)))
    /// ```
    #[test]
    fn differences_are_paired_by_seed_and_their_intervals_students() {
        let record = record();
        let better: Vec<_> = record.table.iter().filter(|row| row.alternative == "better").collect();
        assert_eq!(better.len(), 4, "the mean and three tasks");
        assert!(
            record.table[..2].iter().all(|row| row.task.is_none()) && record.table[0].difference.is_none()
        );
        for row in better {
            let difference = row.difference.as_ref().unwrap();
            assert_eq!((row.n, difference.n), (3, 2), "seed 2 has no partner, nor has 9");
            let (mean, deviation, low, high) = SCIPY;
            let seeds = difference.of_seeds.unwrap();
            for (found, expected) in [
                (difference.mean, mean),
                (difference.deviation.unwrap(), deviation),
                (seeds.low, low),
                (seeds.high, high),
            ] {
                // The quantile has three digits.
                assert!((found - expected).abs() < 2e-4, "{found} vs {expected}");
            }
            // Binomial, about: an eighth of the faces are told better, none worse.
            let faces = difference.of_faces.unwrap();
            let error = 1.96 * (mean * (1.0 - mean) / 180.0).sqrt();
            assert!((faces.low - (mean - error)).abs() < 0.02, "{faces:?}");
            assert!((faces.high - (mean + error)).abs() < 0.02, "{faces:?}");
        }
    }

    const SCIPY: (f64, f64, f64, f64) =
        (0.14444444444444443, 0.07071067811865474, -0.49086579237716016, 0.779754681266049);

    #[test]
    fn runs_are_a_table_that_others_read() {
        let record = record();
        let settings = [("loss.label_smoothing".to_owned(), ["0", "0,1", "1"].map(str::to_owned).to_vec())];
        let csv = record.runs_csv(&settings);
        let mut lines = csv.lines();
        let header = lines.next().unwrap();
        assert!(header.starts_with(
            "alternative,seed,steps,epochs,seconds,train_loss,accuracy,age_accuracy,age_one_off"
        ));
        assert!(header.ends_with("race_nll,loss.label_smoothing"), "{header}");
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[3].starts_with("better,3,9,3,60,2.5,0."), "{}", lines[3]);
        assert!(lines[3].ends_with(",\"0,1\""), "{}", lines[3]);
    }
}
