//! The file of predictions: a CSV, or JSON objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ff_core::labels::FAIRFACE_LABELS;
use ff_core::table::{Table, read_csv};
use ff_core::text::{list, shortened};
use ff_core::{PerTask, TaskName};
use serde_json::{Deserializer, Value};

use super::columns::{Columns, TaskColumns};
use super::{SchemaFile, Spellings, bad_row};
use crate::{Error, Result};

/// How far probabilities may be from a sum of one: they were rounded when they were written.
const SUM_TOLERANCE: f64 = 0.01;
/// How far below the largest probability that of the predicted label may lie, for the same reason.
const TIE_TOLERANCE: f64 = 0.001;

/// What a file predicts.
pub(super) struct Answers {
    pub path: PathBuf,
    /// (n,), as they are written.
    pub files: Vec<String>,
    /// 1-based lines, (n,).
    pub lines: Vec<u64>,
    pub tasks: PerTask<TaskAnswers>,
}

/// What a file predicts for one task, labels and not spellings.
pub(super) enum TaskAnswers {
    /// (n,)
    Labels(Vec<String>),
    /// Distinct labels, and their probabilities: row-major (n, labels).
    Probabilities { labels: Vec<String>, rows: Vec<f32> },
}

/// One row's answer for one task, in spellings.
enum Answer<'a> {
    Label(&'a str),
    Probabilities { spelled: Vec<(&'a str, f64)>, predicted: Option<&'a str> },
}

impl Answers {
    pub fn read(path: &Path, schema: &SchemaFile) -> Result<Self> {
        let bytes = read_csv(path)?;
        let mut answers =
            Self { path: path.to_owned(), files: Vec::new(), lines: Vec::new(), tasks: PerTask::default() };
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => answers.read_json(&bytes, schema)?,
            _ => answers.read_rows(&bytes, schema)?,
        }
        Ok(answers)
    }

    fn read_rows(&mut self, bytes: &[u8], schema: &SchemaFile) -> Result<()> {
        let path = self.path.clone();
        let mut table = Table::new(&path, bytes)?;
        let columns = Columns::new(&path, &table.header, &schema.schema)?;
        let header = table.header.clone();
        while let Some(record) = table.next_row()? {
            let (line, fields) = (record.line, &record.fields);
            let mut answers = Vec::with_capacity(columns.tasks.len());
            for (task, columns) in &columns.tasks {
                let answer = csv_answer(task, columns, &header, fields);
                answers.push((task, answer.map_err(|reason| bad_row(&path, line, reason))?));
            }
            self.add(line, fields[columns.file], answers, &schema.spellings)?;
        }
        Ok(())
    }

    fn read_json(&mut self, bytes: &[u8], schema: &SchemaFile) -> Result<()> {
        let (mut line, mut start) = (1, 0);
        let mut objects = Deserializer::from_slice(bytes).into_iter::<Value>();
        loop {
            let blank = bytes[start..].iter().take_while(|byte| byte.is_ascii_whitespace());
            line += blank.filter(|&&byte| byte == b'\n').count() as u64;
            let Some(object) = objects.next() else { return Ok(()) };
            let object = object
                .map_err(|error| Error::BadFile { path: self.path.clone(), message: error.to_string() })?;
            let end = objects.byte_offset();
            match object.get("predictions").and_then(Value::as_array) {
                // What `predict --json` prints.
                Some(predictions) => {
                    for object in predictions {
                        self.add_object(line, object, schema)?;
                    }
                }
                None => self.add_object(line, &object, schema)?,
            }
            let passed = bytes[start..end].iter().skip_while(|byte| byte.is_ascii_whitespace());
            line += passed.filter(|&&byte| byte == b'\n').count() as u64;
            start = end;
        }
    }

    fn add_object(&mut self, line: u64, object: &Value, schema: &SchemaFile) -> Result<()> {
        let bad = |reason: String| bad_row(&self.path, line, reason);
        let file = object.get("file").and_then(Value::as_str);
        let file = file.ok_or_else(|| bad("expected a text \"file\", found none".to_owned()))?;
        let mut answers = Vec::with_capacity(schema.schema.len());
        for task in schema.schema.names() {
            answers.push((task, json_answer(task, object.get(task.as_str())).map_err(bad)?));
        }
        self.add(line, file, answers, &schema.spellings)
    }

    fn add(
        &mut self,
        line: u64,
        file: &str,
        answers: Vec<(&TaskName, Answer)>,
        spellings: &Spellings,
    ) -> Result<()> {
        let path = &self.path;
        let bad = |reason: String| bad_row(path, line, reason);
        if file.trim().is_empty() {
            return Err(bad("expected a file, found an empty field".to_owned()));
        }
        if self.files.is_empty() {
            let empty = |(task, answer): &(&TaskName, Answer)| {
                ((*task).clone(), TaskAnswers::like(task, answer, spellings))
            };
            self.tasks = answers.iter().map(empty).collect();
        }
        for (task, answer) in answers {
            let added = self.tasks[task].add(task, answer, spellings);
            added.map_err(|reason| bad(format!("{task}: {reason}")))?;
        }
        self.files.push(file.trim().to_owned());
        self.lines.push(line);
        Ok(())
    }
}

/// What a row of a CSV says about a task.
fn csv_answer<'a>(
    task: &TaskName,
    columns: &'a TaskColumns,
    header: &[String],
    fields: &[&'a str],
) -> Result<Answer<'a>, String> {
    match columns {
        TaskColumns::Label(place) => Ok(Answer::Label(fields[*place])),
        TaskColumns::Probabilities { columns, predicted } => {
            let mut spelled = Vec::with_capacity(columns.len());
            for (place, label) in columns {
                let p = fields[*place].trim().parse::<f64>().map_err(|_| {
                    let (column, found) = (shortened(&header[*place]), shortened(fields[*place]));
                    format!("column {column}: expected a probability of {task}, found {found:?}")
                })?;
                spelled.push((label.as_str(), p));
            }
            Ok(Answer::Probabilities { spelled, predicted: predicted.map(|place| fields[place]) })
        }
        TaskColumns::Scores { scores, predicted } => {
            let spelled = fairface_scores(task, fields[*scores])
                .map_err(|reason| format!("column {}: {reason}", header[*scores]))?;
            Ok(Answer::Probabilities { spelled, predicted: Some(fields[*predicted]) })
        }
    }
}

/// What a JSON object says about a task: a label, or an object of `label` and `probabilities`.
fn json_answer<'a>(task: &TaskName, value: Option<&'a Value>) -> Result<Answer<'a>, String> {
    let value = value.ok_or_else(|| format!("expected a prediction of {task}, found none"))?;
    let label = value.get("label").unwrap_or(value).as_str();
    let Some(probabilities) = value.get("probabilities").and_then(Value::as_object) else {
        return label.map(Answer::Label).ok_or_else(|| format!("expected a label of {task}, found none"));
    };
    let mut spelled = Vec::with_capacity(probabilities.len());
    for (label, p) in probabilities {
        let p =
            p.as_f64().ok_or_else(|| format!("{task}: expected a probability of {label:?}, found {p}"))?;
        spelled.push((label.as_str(), p));
    }
    Ok(Answer::Probabilities { spelled, predicted: label })
}

impl TaskAnswers {
    /// None yet, of the kind and the labels of this one.
    fn like(task: &TaskName, answer: &Answer, spellings: &Spellings) -> Self {
        match answer {
            Answer::Label(_) => Self::Labels(Vec::new()),
            Answer::Probabilities { spelled, .. } => {
                let mut labels: Vec<String> =
                    spelled.iter().map(|(spelling, _)| spellings.label(task, spelling).to_owned()).collect();
                labels.sort_unstable();
                labels.dedup();
                Self::Probabilities { labels, rows: Vec::new() }
            }
        }
    }

    fn add(&mut self, task: &TaskName, answer: Answer, spellings: &Spellings) -> Result<(), String> {
        match (self, answer) {
            (Self::Labels(rows), Answer::Label(spelling)) => {
                let label = spellings.label(task, spelling);
                if label.is_empty() {
                    return Err("expected a predicted label, found none".to_owned());
                }
                rows.push(label.to_owned());
                Ok(())
            }
            (Self::Probabilities { labels, rows }, Answer::Probabilities { spelled, predicted }) => {
                let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
                for (spelling, p) in spelled {
                    let label = spellings.label(task, spelling);
                    if label.is_empty() {
                        return Err(format!(
                            "expected a label, found none for the probability of {spelling:?}"
                        ));
                    }
                    if !p.is_finite() || !(0.0..=1.0 + SUM_TOLERANCE).contains(&p) {
                        return Err(format!("expected a probability of {spelling:?} from 0 to 1, found {p}"));
                    }
                    *sums.entry(label).or_default() += p;
                }
                if !sums.keys().eq(labels.iter()) {
                    let found: Vec<String> = sums.keys().map(|&label| label.to_owned()).collect();
                    let (expected, found) = (list(labels), list(&found));
                    return Err(format!("expected probabilities of {expected}, found them of {found}"));
                }
                let sum: f64 = sums.values().sum();
                if (sum - 1.0).abs() > SUM_TOLERANCE {
                    return Err(format!("expected probabilities that sum to 1, found {sum:.4}"));
                }
                let predicted = predicted.map(|spelling| spellings.label(task, spelling));
                check_predicted(&sums, predicted.filter(|label| !label.is_empty()))?;
                rows.extend(sums.values().map(|&p| p as f32));
                Ok(())
            }
            (Self::Labels(_), _) => {
                Err("expected a label as in the first row, found probabilities".to_owned())
            }
            (Self::Probabilities { .. }, _) => {
                Err("expected probabilities as in the first row, found a label alone".to_owned())
            }
        }
    }
}

/// Whether a predicted label is the most probable one: where it is not, a threshold made it, and it is for the user to
/// say which of both counts.
fn check_predicted(sums: &BTreeMap<&str, f64>, predicted: Option<&str>) -> Result<(), String> {
    let Some(predicted) = predicted else { return Ok(()) };
    let most = sums.iter().fold(("", 0.0), |most, (&label, &p)| if p > most.1 { (label, p) } else { most });
    let p = sums.get(predicted).copied().unwrap_or(0.0);
    if most.1 - p <= TIE_TOLERANCE {
        return Ok(());
    }
    Err(format!(
        "expected the most probable label {:?} ({}) as prediction, found {:?} ({p}); keep probabilities or labels",
        most.0,
        most.1,
        shortened(predicted)
    ))
}

/// The vector that FairFace's `predict.py` writes, `[0.25 0.75]`, with the names of its classes.
fn fairface_scores(task: &TaskName, text: &str) -> Result<Vec<(&'static str, f64)>, String> {
    let Some((_, labels)) = FAIRFACE_LABELS.iter().find(|(name, _)| *task == *name) else {
        return Err(format!("expected scores of age, gender or race, found those of {task}"));
    };
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let parse = |text: &str| -> Option<Vec<f64>> {
        text.split([' ', ',', '\n', '\r', '\t'])
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().ok())
            .collect()
    };
    let scores = inner.and_then(parse).unwrap_or_default();
    if scores.len() != labels.len() {
        return Err(format!(
            "expected {} scores such as [0.25 0.75], one for each of FairFace's classes, found {:?}",
            labels.len(),
            shortened(text)
        ));
    }
    Ok(labels.iter().copied().zip(scores).collect())
}
