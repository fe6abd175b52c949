//! Rows of predictions and rows of labels that are about the same image.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use ff_core::text::{list, shortened};
use ff_core::{Encoders, LabelEncoder, PerTask, Schema, UNKNOWN};
use serde::{Deserialize, Serialize};

use super::answers::{Answers, TaskAnswers};
use super::label_table::LabelTable;
use super::{FilePredictions, bad_row, normalised};
use crate::{Attribute, Error, Predictions, Result};

/// Rows and labels named where they find no other.
const MOST_NAMED: usize = 10;

/// What went together, and what did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Rows that are in both files.
    pub n: usize,
    /// Those of them that have only the base name in common.
    pub n_by_base_name: usize,
    /// Rows of labels without a prediction.
    pub without_prediction: Unmatched,
    /// Predictions without a row of labels.
    pub without_label: Unmatched,
    /// Labels that are predicted, or have a probability, but stand in no row of labels.
    pub only_predicted: PerTask<Vec<String>>,
    /// Labels that are never predicted and have no probability.
    pub only_labelled: PerTask<Vec<String>>,
}

/// Rows that find no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// How many.
    pub n: usize,
    /// The first of their files.
    pub first: Vec<String>,
}

impl Join {
    /// Refuses rows that find no other.
    ///
    /// # Errors
    /// There are some; the message names the first.
    pub fn require_complete(&self) -> Result<()> {
        let Self { without_prediction, without_label, .. } = self;
        if without_prediction.n + without_label.n == 0 {
            return Ok(());
        }
        let named = |rows: &Unmatched, what: &str| match rows.n {
            0 => None,
            n => Some(format!("{n} {what}: {}", rows.first.join(", "))),
        };
        let found = [
            named(without_prediction, "labels without a prediction"),
            named(without_label, "predictions without labels"),
        ];
        Err(Error::NoJoin { found: found.into_iter().flatten().collect::<Vec<_>>().join("; ") })
    }
}

impl Unmatched {
    pub(crate) fn of(files: &[String], is_matched: impl Fn(usize) -> bool) -> Self {
        let alone = || files.iter().enumerate().filter(|(i, _)| !is_matched(*i)).map(|(_, file)| file);
        Self { n: alone().count(), first: alone().take(MOST_NAMED).cloned().collect() }
    }
}

pub(super) fn join(answers: Answers, table: LabelTable, schema: &Schema) -> Result<FilePredictions> {
    let predicted = places(&answers.path, &answers.files, &answers.lines)?;
    let labelled = places(&table.path, &table.files, &table.lines)?;
    let (pairs, n_by_base_name) = pairs(&predicted, &labelled, &table.files);
    if pairs.is_empty() {
        let first = |files: &[String]| {
            files.first().map_or("none".to_owned(), |file| format!("{:?}", shortened(file)))
        };
        return Err(Error::NoJoin {
            found: format!(
                "none in common: {} in {}, {} in {}",
                first(&answers.files),
                answers.path.display(),
                first(&table.files),
                table.path.display()
            ),
        });
    }
    let known = table
        .tasks
        .as_ref()
        .map(|labels| labels.iter().flatten().map(String::as_str).collect::<BTreeSet<_>>());
    let answered = answers.tasks.as_ref().map(|answers| match answers {
        TaskAnswers::Labels(labels) | TaskAnswers::Probabilities { labels, .. } => {
            labels.iter().map(String::as_str).collect::<BTreeSet<_>>()
        }
    });
    let encoders = schema.try_per_task(|task| {
        let (known, answered) = (&known[&task.name], &answered[&task.name]);
        if !known.is_empty() && known.is_disjoint(answered) {
            return Err(disjoint(&answers, task.name.as_str(), known, answered));
        }
        let union = known.union(answered).copied();
        LabelEncoder::fit(task.clone(), union).map_err(Error::from)
    })?;
    let encoders = Encoders::new(encoders)?;

    let mut predictions = Predictions::of(&encoders);
    for (task, encoder) in encoders.iter() {
        let id = |label: &str| encoder.encode(label).map_err(Error::from);
        let rows = &mut predictions.probabilities[task];
        let n_classes = encoder.n_classes();
        rows.resize(pairs.len() * n_classes, 0.0);
        let rows = rows.chunks_exact_mut(n_classes).zip(&pairs);
        match &answers.tasks[task] {
            TaskAnswers::Labels(labels) => {
                for (row, &(answer, _)) in rows {
                    row[id(&labels[answer])? as usize] = 1.0;
                }
                predictions.labels_only.push(task.clone());
            }
            TaskAnswers::Probabilities { labels, rows: given } => {
                let ids = labels.iter().map(|label| id(label)).collect::<Result<Vec<u32>>>()?;
                for (row, &(answer, _)) in rows {
                    let given = &given[answer * labels.len()..][..labels.len()];
                    ids.iter().zip(given).for_each(|(&id, &p)| row[id as usize] = p);
                }
            }
        }
        let target = |&(_, row): &(usize, usize)| match &table.tasks[task][row] {
            Some(label) => id(label),
            None => Ok(UNKNOWN),
        };
        predictions.targets[task] = pairs.iter().map(target).collect::<Result<_>>()?;
    }
    predictions.files = pairs.iter().map(|&(_, row)| table.files[row].clone()).collect();
    let attribute = |(name, values): &(String, Vec<String>)| {
        Attribute::new(name.clone(), pairs.iter().map(|&(_, row)| Some(values[row].as_str())))
    };
    predictions.attributes = table.others.iter().map(attribute).collect();

    let [mut with_prediction, mut with_label] =
        [vec![false; table.files.len()], vec![false; answers.files.len()]];
    pairs.iter().for_each(|&(answer, row)| (with_prediction[row], with_label[answer]) = (true, true));
    let only = |these: &PerTask<BTreeSet<&str>>, those: &PerTask<BTreeSet<&str>>| {
        these.each(|task, these| these.difference(&those[task]).map(|&label| label.to_owned()).collect())
    };
    let join = Join {
        n: pairs.len(),
        n_by_base_name,
        without_prediction: Unmatched::of(&table.files, |row| with_prediction[row]),
        without_label: Unmatched::of(&answers.files, |answer| with_label[answer]),
        only_predicted: only(&answered, &known),
        only_labelled: only(&known, &answered),
    };
    Ok(FilePredictions { predictions, encoders, join })
}

fn disjoint(answers: &Answers, task: &str, known: &BTreeSet<&str>, answered: &BTreeSet<&str>) -> Error {
    let names =
        |labels: &BTreeSet<&str>| list(&labels.iter().map(|&label| shortened(label)).collect::<Vec<_>>());
    Error::BadFile {
        path: answers.path.clone(),
        message: format!(
            "{task}: expected labels such as {}, found {}; [labels.{task}] of a schema maps spellings to labels",
            names(known),
            names(answered)
        ),
    }
}

/// The row of every file.
fn places(path: &Path, files: &[String], lines: &[u64]) -> Result<HashMap<String, usize>> {
    let mut places = HashMap::with_capacity(files.len());
    for (i, file) in files.iter().enumerate() {
        if let Some(first) = places.insert(normalised(file), i) {
            let reason =
                format!("expected every file once, found {:?} in line {} too", shortened(file), lines[first]);
            return Err(bad_row(path, lines[i], reason));
        }
    }
    Ok(places)
}

/// Places of predictions and labels that go together, in the order of the labels; and how many of them by base name.
pub(crate) fn pairs(
    predicted: &HashMap<String, usize>,
    labelled: &HashMap<String, usize>,
    files: &[String],
) -> (Vec<(usize, usize)>, usize) {
    let by_base = [predicted, labelled].map(|side| {
        let mut by_base: HashMap<&str, (usize, usize)> = HashMap::new();
        for (file, &place) in side {
            let (n, _) = *by_base.get(base_name(file)).unwrap_or(&(0, 0));
            by_base.insert(base_name(file), (n + 1, place));
        }
        by_base
    });
    let alone = |side: usize, file: &str| match by_base[side].get(base_name(file)) {
        Some(&(1, place)) => Some(place),
        _ => None,
    };
    let (mut pairs, mut n_by_base_name) = (Vec::new(), 0);
    for (row, file) in files.iter().enumerate() {
        let file = normalised(file);
        if let Some(&answer) = predicted.get(&file) {
            pairs.push((answer, row));
        } else if let Some(answer) = alone(0, &file).filter(|_| alone(1, &file).is_some()) {
            pairs.push((answer, row));
            n_by_base_name += 1;
        }
    }
    (pairs, n_by_base_name)
}

fn base_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
