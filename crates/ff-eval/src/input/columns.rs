//! Which column of a predictions' CSV is what: the rules stand in [`input`](crate::input).

use std::path::Path;

use ff_core::{Schema, Task, TaskName};

use crate::{Error, Result};

/// Names of the column with the image's name, the first before the others.
const FILE: [&str; 3] = ["file", "img_path", "face_name_align"];
/// After a task's name: what it is predicted as, without doubt.
const PREDICTED: [&str; 3] = ["predicted", "prediction", "pred"];
/// After a task's name: neither a prediction nor a label's probability.
const OTHER: [&str; 12] = [
    "probability",
    "probabilities",
    "confidence",
    "score",
    "scores",
    "scores_fair_4",
    "correct",
    "true",
    "target",
    "id",
    "index",
    "order",
];

/// Where things stand in a row.
pub(super) struct Columns {
    pub file: usize,
    pub tasks: Vec<(TaskName, TaskColumns)>,
}

/// Where a task's prediction stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TaskColumns {
    /// In a column of labels.
    Label(usize),
    /// In a column a label, with its spelling; and in one of labels that must say the same.
    Probabilities { columns: Vec<(usize, String)>, predicted: Option<usize> },
    /// In a column with all probabilities, and in one of labels.
    Scores { scores: usize, predicted: usize },
}

/// What a column may be to a task.
enum Role {
    Predicted,
    Label,
    Scores,
    Probability(String),
    Other,
}

/// The place of the image's name.
pub(super) fn file_column(path: &Path, header: &[String]) -> Result<usize> {
    let place = FILE.iter().find_map(|name| header.iter().position(|column| column == name));
    place.ok_or_else(|| Error::BadFile {
        path: path.to_owned(),
        message: format!(
            "expected a column {}, found {}",
            ff_core::text::either(&FILE.map(str::to_owned)),
            ff_core::text::list(header)
        ),
    })
}

impl Columns {
    pub fn new(path: &Path, header: &[String], schema: &Schema) -> Result<Self> {
        let file = file_column(path, header)?;
        let roles: Vec<Option<(&TaskName, Role)>> = header
            .iter()
            .enumerate()
            .map(|(i, name)| (i != file).then(|| role(name, schema)).flatten())
            .collect();
        let of_task = |task: &Task| {
            let places = |wanted: fn(&Role) -> bool| -> Vec<usize> {
                let roles = roles.iter().enumerate();
                let mine = roles.filter(|(_, role)| {
                    role.as_ref().is_some_and(|(name, role)| **name == task.name && wanted(role))
                });
                mine.map(|(i, _)| i).collect()
            };
            let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
            let one = |places: &[usize]| match places {
                [] => Ok(None),
                [place] => Ok(Some(*place)),
                [first, second, ..] => Err(bad(format!(
                    "expected one column of predicted labels of {}, found {} and {}",
                    task.name, header[*first], header[*second]
                ))),
            };
            let predicted = one(&places(|role| matches!(role, Role::Predicted)))?;
            let labels = places(|role| matches!(role, Role::Label));
            let probabilities: Vec<(usize, String)> = roles
                .iter()
                .enumerate()
                .filter_map(|(i, role)| match role {
                    Some((name, Role::Probability(label))) if **name == task.name => Some((i, label.clone())),
                    _ => None,
                })
                .collect();
            let scores = one(&places(|role| matches!(role, Role::Scores)))?;
            if probabilities.len() >= 2 {
                return Ok(TaskColumns::Probabilities { columns: probabilities, predicted });
            }
            let label = match predicted {
                Some(place) => Some(place),
                None => one(&labels)?,
            };
            match (label, scores) {
                (Some(predicted), Some(scores)) => Ok(TaskColumns::Scores { scores, predicted }),
                (Some(place), None) => Ok(TaskColumns::Label(place)),
                (None, _) => Err(bad(format!(
                    "expected predictions of {0}: a column {0}_predicted, or columns {0}:LABEL of two labels or more, \
                     found {1}",
                    task.name,
                    ff_core::text::list(header)
                ))),
            }
        };
        let tasks = schema.tasks().iter().map(|task| Ok((task.name.clone(), of_task(task)?)));
        Ok(Self { file, tasks: tasks.collect::<Result<_>>()? })
    }
}

/// The task that a column belongs to, and as what.
fn role<'a>(column: &str, schema: &'a Schema) -> Option<(&'a TaskName, Role)> {
    let stems =
        schema.tasks().iter().flat_map(|task| [(task, task.name.as_str()), (task, task.column.as_str())]);
    let claims = stems.filter_map(|(task, stem)| {
        let rest = column.strip_prefix(stem)?;
        let role = match rest {
            "" => Role::Label,
            _ if rest.starts_with(':') && rest.len() > 1 => Role::Probability(rest[1..].to_owned()),
            _ => match rest.strip_prefix('_')? {
                "" => return None,
                "label" => Role::Label,
                "scores_fair" => Role::Scores,
                word if PREDICTED.contains(&word) => Role::Predicted,
                word if OTHER.contains(&word) => Role::Other,
                label => Role::Probability(label.to_owned()),
            },
        };
        Some((stem.len(), &task.name, role))
    });
    claims.max_by_key(|(length, ..)| *length).map(|(_, task, role)| (task, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &str, tasks: &[Task]) -> std::result::Result<Vec<TaskColumns>, String> {
        let header: Vec<String> = header.split(',').map(str::to_owned).collect();
        let schema = Schema::new(tasks.to_vec()).unwrap();
        match Columns::new(Path::new("p.csv"), &header, &schema) {
            Ok(columns) => Ok(columns.tasks.into_iter().map(|(_, columns)| columns).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_column_is_a_prediction_a_probability_or_nothing() {
        let age = [Task::new("age").with_column("age group")];
        let probabilities = |columns: &[(usize, &str)], predicted| TaskColumns::Probabilities {
            columns: columns.iter().map(|&(i, label)| (i, label.to_owned())).collect(),
            predicted,
        };
        for (header, expected) in [
            ("file,age", TaskColumns::Label(1)),
            ("age_label,file", TaskColumns::Label(0)),
            ("file,age group", TaskColumns::Label(1)),
            ("file,age,age_pred,age_correct", TaskColumns::Label(2)),
            ("file,age,age:0-2,age:3-9", probabilities(&[(2, "0-2"), (3, "3-9")], None)),
            ("file,age_0-2,age_3-9,age_predicted", probabilities(&[(1, "0-2"), (2, "3-9")], Some(3))),
            ("img_path,age group_0-2,age group:3-9", probabilities(&[(1, "0-2"), (2, "3-9")], None)),
            ("face_name_align,age,age_scores_fair", TaskColumns::Scores { scores: 2, predicted: 1 }),
        ] {
            assert_eq!(columns(header, &age).as_deref(), Ok(&[expected][..]), "{header}");
        }
        let two = [Task::new("age"), Task::new("age_group")];
        let found = columns("file,age,age_group_pred,age_group_x", &two).unwrap();
        assert_eq!(found, [TaskColumns::Label(1), TaskColumns::Label(2)], "the longest name claims a column");
    }

    #[test]
    fn what_is_missing_or_stands_for_two_things_is_refused() {
        let age = [Task::new("age")];
        for (header, message) in [
            ("age", "p.csv: expected a column file, img_path or face_name_align, found age"),
            (
                "file,age,age_label",
                "p.csv: expected one column of predicted labels of age, found age and age_label",
            ),
            ("file,age_pred,age_predicted", "p.csv: expected one column of predicted labels of age,"),
            (
                "file,age:x",
                "p.csv: expected predictions of age: a column age_predicted, or columns age:LABEL",
            ),
        ] {
            let found = columns(header, &age).unwrap_err();
            assert!(found.starts_with(message), "{header}: {found}");
        }
    }
}
