//! The file of labels: a CSV with a column a task, and others to group by.

use std::path::{Path, PathBuf};

use ff_core::PerTask;
use ff_core::table::{Table, read_csv};
use ff_core::text::list;

use super::columns::file_column;
use super::{SchemaFile, bad_row};
use crate::{Error, Result};

/// What samples are labelled as.
pub(super) struct LabelTable {
    pub path: PathBuf,
    /// (n,), as they are written.
    pub files: Vec<String>,
    /// 1-based lines, (n,).
    pub lines: Vec<u64>,
    /// Labels, not spellings; `None` where they are not known, (n,).
    pub tasks: PerTask<Vec<Option<String>>>,
    /// Further columns with their names, (n,).
    pub others: Vec<(String, Vec<String>)>,
}

impl LabelTable {
    pub fn read(path: &Path, SchemaFile { schema, spellings }: &SchemaFile) -> Result<Self> {
        let bytes = read_csv(path)?;
        let mut table = Table::new(path, &bytes)?;
        let header = table.header.clone();
        let file = file_column(path, &header)?;
        let places = schema.try_per_task(|task| {
            let place = |name: &str| header.iter().position(|column| column == name);
            place(&task.column).or_else(|| place(task.name.as_str())).ok_or_else(|| Error::BadFile {
                path: path.to_owned(),
                message: format!(
                    "expected a column {} with the labels of {}, found {}",
                    task.column,
                    task.name,
                    list(&header)
                ),
            })
        })?;
        // A column without a name is the index that pandas writes.
        let is_other = |(i, name): &(usize, &String)| {
            *i != file && !name.is_empty() && places.values().all(|place| place != i)
        };
        let others: Vec<(usize, &String)> = header.iter().enumerate().filter(is_other).collect();
        let mut found = Self {
            path: path.to_owned(),
            files: Vec::new(),
            lines: Vec::new(),
            tasks: places.each(|_, _| Vec::new()),
            others: others.iter().map(|&(_, name)| (name.clone(), Vec::new())).collect(),
        };
        while let Some(record) = table.next_row()? {
            let name = record.fields[file].trim();
            if name.is_empty() {
                return Err(bad_row(path, record.line, "expected a file, found an empty field".to_owned()));
            }
            found.files.push(name.to_owned());
            found.lines.push(record.line);
            for (task, labels) in found.tasks.iter_mut() {
                let label = spellings.label(task, record.fields[places[task]]);
                labels.push((!label.is_empty()).then(|| label.to_owned()));
            }
            for ((_, values), (place, _)) in found.others.iter_mut().zip(&others) {
                values.push(record.fields[*place].trim().to_owned());
            }
        }
        Ok(found)
    }
}
