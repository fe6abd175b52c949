//! A split CSV as checked rows.
//!
//! Columns `file` and those of the schema's tasks are required, in any order; others (`service_test`, `split`, ...) are
//! kept as text, a pandas index column is left out. Blanks around names of columns and labels are not part of them, and
//! an empty label is one that is not known. Every row remembers its line, so that a broken image can later be traced to
//! the row that names it. No image is touched here.

use std::path::{Component, Path, PathBuf};

use ff_core::{
    Schema, TaskName,
    files::write_atomic,
    table::{Record, Table, read_csv},
    text::shortened,
};

use crate::error::{Error, Result};

const FILE: &str = "file";

/// What the files of a CSV may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePaths {
    /// Paths that stay in the images folder, once `.` and `..` are worked out. Links in there lead where they like.
    InsideRoot,
    /// Absolute paths and those that leave the folder too.
    Anywhere,
}

/// The rows of one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    path: PathBuf,
    schema: Schema,
    extra_columns: Vec<String>,
    rows: Vec<Row>,
}

/// One face: its image file and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Image file, relative to the images folder (or absolute).
    pub file: String,
    /// Label strings in the order of the schema, neither empty nor with blanks around them; `None` where the label is
    /// not known.
    pub labels: Vec<Option<String>>,
    /// Further columns as text, in the order of [`Manifest::extra_columns`].
    pub extra: Vec<String>,
    /// 1-based line in the CSV.
    pub line: u64,
}

impl Manifest {
    /// Reads and checks a CSV file whose paths stay [inside the images folder](FilePaths::InsideRoot).
    ///
    /// # Errors
    /// The file cannot be read or is longer than 1 GiB; columns are missing (all are named, with those found) or stand
    /// twice; a row has the wrong number of fields, an empty file, a file outside the images folder, a label of several
    /// lines, or is not UTF-8 (file and line are named).
    pub fn read(path: impl AsRef<Path>, schema: &Schema) -> Result<Self> {
        Self::read_with(path, schema, FilePaths::InsideRoot)
    }

    /// As [`Manifest::read`], and says what its files may be.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn read_with(path: impl AsRef<Path>, schema: &Schema, files: FilePaths) -> Result<Self> {
        let path = path.as_ref();
        let manifest = Self::parse(path, &read_csv(path)?, schema)?;
        if files == FilePaths::InsideRoot
            && let Some(row) = manifest.rows.iter().find(|row| leaves_root(Path::new(&row.file)))
        {
            let file = shortened(&row.file);
            let reason = format!(
                "expected a file inside the images folder, found {file:?} (data.outside_root = true allows it)"
            );
            return Err(Error::bad_row(path, row.line, reason));
        }
        Ok(manifest)
    }

    /// Checks CSV text that is already in memory, whatever its files are; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(path: impl Into<PathBuf>, bytes: &[u8], schema: &Schema) -> Result<Self> {
        /// A short row: memory for more is taken as rows come.
        const ROW_LEN: usize = 40;
        const MAX_ROWS_AT_ONCE: usize = 1 << 20;
        let path = path.into();
        let mut table = Table::new(&path, bytes)?;
        let columns = Columns::new(&path, &table.header, schema)?;
        let mut rows = Vec::with_capacity((bytes.len() / ROW_LEN).min(MAX_ROWS_AT_ONCE));
        while let Some(record) = table.next_row()? {
            let row = columns.row(&record);
            rows.push(row.map_err(|reason| Error::bad_row(&path, record.line, reason))?);
        }
        let extra_columns = columns.extra.into_iter().map(|(_, name)| name).collect();
        Ok(Manifest { path, schema: schema.clone(), extra_columns, rows })
    }

    /// A manifest from rows made elsewhere; lines are renumbered as [`Manifest::write`] will place them.
    ///
    /// # Errors
    /// A row that [`Manifest::read`] would refuse.
    pub fn new(
        path: impl Into<PathBuf>,
        schema: &Schema,
        extra_columns: Vec<String>,
        rows: Vec<Row>,
    ) -> Result<Self> {
        Self::parse(path, &to_csv(schema, &extra_columns, &rows), schema)
    }

    /// Files without labels, of any schema and not even unknown ones, numbered as lines from 1; only for
    /// [`Dataset::unlabelled`].
    ///
    /// [`Dataset::unlabelled`]: crate::Dataset::unlabelled
    pub(crate) fn unlabelled(files: impl IntoIterator<Item = String>) -> Self {
        let row = |(file, line)| Row { file, labels: Vec::new(), extra: Vec::new(), line };
        let rows = files.into_iter().zip(1..).map(row).collect();
        let (path, schema) = (PathBuf::from("file list"), Schema::default());
        Manifest { path, schema, extra_columns: Vec::new(), rows }
    }

    /// The CSV that the rows came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tasks that its columns were read for.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The rows, in file order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Names of the columns beyond `file` and those of tasks, in file order.
    pub fn extra_columns(&self) -> &[String] {
        &self.extra_columns
    }

    /// All values of an extra column such as `service_test`, row by row; `None` where the CSV has no such column.
    pub fn extra(&self, column: &str) -> Option<impl Iterator<Item = &str>> {
        let i = self.extra_columns.iter().position(|name| name == column)?;
        Some(self.rows.iter().map(move |row| row.extra[i].as_str()))
    }

    /// The rows in which an extra column such as `service_test` says `True` (or `true`, `1`); they keep their lines.
    ///
    /// # Errors
    /// No such column; a value that is neither true nor false (its row is named); no row that is true.
    pub fn subset(&self, column: &str) -> Result<Self> {
        let bad = |reason| Error::Subset { path: self.path.clone(), column: column.to_owned(), reason };
        let missing = || bad(format!("expected such a column, found [{}]", self.extra_columns.join(", ")));
        let mut rows = Vec::new();
        for (row, value) in self.rows.iter().zip(self.extra(column).ok_or_else(missing)?) {
            match value.trim().to_ascii_lowercase().as_str() {
                "true" | "1" => rows.push(row.clone()),
                "false" | "0" => {}
                _ => {
                    let reason = format!("column {column}: expected True or False, found {value:?}");
                    return Err(Error::bad_row(&self.path, row.line, reason));
                }
            }
        }
        if rows.is_empty() {
            return Err(bad("expected a row that is True, found none".to_owned()));
        }
        Ok(self.with_rows(rows))
    }

    /// Some of its rows, or such of the same columns, which keep their lines.
    pub(crate) fn with_rows(&self, rows: Vec<Row>) -> Self {
        Manifest {
            rows,
            path: self.path.clone(),
            schema: self.schema.clone(),
            extra_columns: self.extra_columns.clone(),
        }
    }

    /// The labels of a task, row by row; `None` where they are not known.
    ///
    /// # Panics
    /// The schema has no such task.
    pub fn labels<'m>(&'m self, task: &TaskName) -> impl Iterator<Item = Option<&'m str>> + use<'m> {
        let i = self.schema.names().position(|name| name == task);
        let i = i.unwrap_or_else(|| panic!("expected a task, found {task:?}"));
        self.rows.iter().map(move |row| row.label(i))
    }

    /// The values of any column, row by row, without blanks around them, empty where they are not known: a task's by
    /// its name or its column's, or an extra column's. `None` where there is no such column.
    pub fn column<'m>(&'m self, name: &str) -> Option<impl Iterator<Item = &'m str> + use<'m>> {
        enum Column {
            Label(usize),
            Extra(usize),
        }
        let tasks = self.schema.tasks();
        let by_name = tasks.iter().position(|task| task.name == *name);
        let label = by_name.or_else(|| tasks.iter().position(|task| task.column == name));
        let extra = || self.extra_columns.iter().position(|column| column == name);
        let column = label.map(Column::Label).or_else(|| extra().map(Column::Extra))?;
        Some(self.rows.iter().map(move |row| match column {
            Column::Label(i) => row.label(i).unwrap_or_default(),
            Column::Extra(i) => row.extra[i].trim(),
        }))
    }

    /// What [`Manifest::column`] finds: tasks, then extra columns.
    pub fn column_names(&self) -> Vec<String> {
        self.schema.names().map(TaskName::to_string).chain(self.extra_columns.iter().cloned()).collect()
    }

    /// The manifest as CSV text: `file`, the tasks' columns, then the extra ones. Lines end in `\n`.
    pub fn to_csv(&self) -> Vec<u8> {
        to_csv(&self.schema, &self.extra_columns, &self.rows)
    }

    /// Writes the CSV whole: no reader ever sees half a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(write_atomic(path.as_ref(), &self.to_csv())?)
    }
}

impl Row {
    /// The label of the task at a place in the schema; images for prediction have none.
    fn label(&self, i: usize) -> Option<&str> {
        self.labels.get(i)?.as_deref()
    }
}

fn to_csv(schema: &Schema, extra_columns: &[String], rows: &[Row]) -> Vec<u8> {
    const IN_MEMORY: &str = "writing into memory cannot fail";
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    let names = required(schema).chain(extra_columns.iter().map(String::as_str));
    writer.write_record(names).expect(IN_MEMORY);
    for row in rows {
        let labels = row.labels.iter().map(|label| label.as_deref().unwrap_or_default());
        let fields = [row.file.as_str()].into_iter().chain(labels);
        writer.write_record(fields.chain(row.extra.iter().map(String::as_str))).expect(IN_MEMORY);
    }
    writer.into_inner().expect(IN_MEMORY)
}

/// Whether a path leads out of the folder that it is relative to, as far as its text says.
fn leaves_root(path: &Path) -> bool {
    let mut depth = 0_usize;
    for part in path.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

/// Columns that must be there.
fn required(schema: &Schema) -> impl Iterator<Item = &str> + Clone {
    [FILE].into_iter().chain(schema.tasks().iter().map(|task| task.column.as_str()))
}

/// Where each column stands.
struct Columns {
    file: usize,
    /// Place and name of every task's.
    labels: Vec<(usize, String)>,
    extra: Vec<(usize, String)>,
}

impl Columns {
    fn new(path: &Path, header: &[String], schema: &Schema) -> Result<Self> {
        let place = |column: &str| header.iter().position(|name| name == column);
        let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<Vec<_>>();
        let missing = owned(&mut required(schema).filter(|&column| place(column).is_none()));
        if !missing.is_empty() {
            let found = header.iter().filter(|name| !name.is_empty()).map(|name| shortened(name)).collect();
            let expected = owned(&mut required(schema));
            return Err(Error::MissingColumns { path: path.to_owned(), missing, expected, found });
        }
        let place = |column: &str| place(column).expect("checked above");
        let is_index = |name: &str| name.is_empty() || name.starts_with("Unnamed: ");
        let extra = header.iter().enumerate();
        let extra = extra.filter(|(_, name)| !required(schema).any(|r| r == *name) && !is_index(name));
        Ok(Columns {
            file: place(FILE),
            labels: schema.tasks().iter().map(|task| (place(&task.column), task.column.clone())).collect(),
            extra: extra.map(|(i, name)| (i, name.clone())).collect(),
        })
    }

    /// A row, or what is wrong with it.
    fn row(&self, record: &Record) -> Result<Row, String> {
        let file = record.fields[self.file];
        if file.trim().is_empty() {
            return Err(format!("expected a value in column {FILE}, found none"));
        }
        let label = |(i, column): &(usize, String)| {
            let text = record.fields[*i].trim();
            // As where a quote was forgotten, and the rest of the row and the next one are taken for a label.
            if text.contains(['\n', '\r']) {
                let found = shortened(text);
                return Err(format!("column {column}: expected a label in one line, found {found:?}"));
            }
            Ok((!text.is_empty()).then(|| text.to_owned()))
        };
        Ok(Row {
            file: file.to_owned(),
            labels: self.labels.iter().map(label).collect::<Result<_, _>>()?,
            extra: self.extra.iter().map(|&(i, _)| record.fields[i].to_owned()).collect(),
            line: record.line,
        })
    }
}
