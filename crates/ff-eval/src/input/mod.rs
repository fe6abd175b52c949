//! Anybody's predictions, from files: a table of predictions and one of labels, joined by file name.
//!
//! **Predictions** are a CSV, or JSON: the objects that `predict --format json` prints, or the one of `predict --json`. The
//! image's name is in the column `file`, `img_path` or `face_name_align`. What a task `age` is predicted as is in
//! - columns `age:LABEL` or `age_LABEL`, two or more: the probability of each label. They are in 0..=1 and sum to one. The
//!   most probable label is the prediction; a column `age_predicted` beside them must say the same;
//! - or a column of labels: `age_predicted`, `age_prediction` or `age_pred`; where there is none of those, `age` or
//!   `age_label`. There are no probabilities then, and figures that need them are undefined;
//! - or `age` and `age_scores_fair` as FairFace's `predict.py` writes them.
//!
//! A task's column stands for its name too (`age_group_pred`). Of several tasks the one with the longest name claims a
//! column; words as `age_probability` or `age_correct` claim none. Other columns are passed over.
//!
//! **Labels** are a CSV with the name's column, a column a task, and any others: these are there to group by. An empty label
//! is not known. The two may be one file.
//!
//! **Joining**: a row of one goes with the row of the other whose file is the same text, once `\` is `/` and a leading
//! `./` is gone. Rows left over go together where they have the same base name and no other row of either file has it.
//! Files that stand twice are an error; rows that find no other are counted and named in [`Join`].
//!
//! **Spellings** of labels are mapped on both sides by a [`SchemaFile`]; probabilities of spellings of one label are added
//! up. The classes of a task are the labels of both files, sorted.

mod answers;
mod columns;
mod join;
mod label_table;
mod schema_file;

use std::path::Path;

use ff_core::Encoders;
use ff_core::table::Error as TableError;

pub(crate) use join::pairs;
pub use join::{Join, Unmatched};
pub use schema_file::{SchemaFile, Spellings};

use crate::{Predictions, Result};

/// What two files say together.
#[derive(Debug, Clone, PartialEq)]
pub struct FilePredictions {
    /// The samples that are in both, in the order of the labels.
    pub predictions: Predictions,
    /// The labels of both.
    pub encoders: Encoders,
    /// What went together, and what did not.
    pub join: Join,
}

/// Reads predictions and the labels to judge them by.
///
/// # Errors
/// A file cannot be read or lacks a column; a row has no file, no prediction, or probabilities that are none; a file stands
/// twice; nothing goes together; a task's predictions and labels have no label in common. Messages name file and row.
pub fn read_predictions(predictions: &Path, labels: &Path, schema: &SchemaFile) -> Result<FilePredictions> {
    let answers = answers::Answers::read(predictions, schema)?;
    let table = label_table::LabelTable::read(labels, schema)?;
    join::join(answers, table, &schema.schema)
}

/// The text of a file's name as it is compared.
pub(crate) fn normalised(file: &str) -> String {
    let file = file.trim().replace('\\', "/");
    file.strip_prefix("./").unwrap_or(&file).to_owned()
}

fn bad_row(path: &Path, line: u64, reason: String) -> crate::Error {
    TableError::BadRow { path: path.to_owned(), line, reason }.into()
}
