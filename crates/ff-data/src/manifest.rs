//! A split CSV as checked rows.
//!
//! Columns `file, age, gender, race` are required, in any order; others (`service_test`, `split`, ...) are kept as
//! text, a pandas index column is left out. Blanks around names of columns and labels are not part of them. Every row
//! remembers its line, so that a broken image can later be traced to the row that names it. No image is touched here.

use std::path::{Component, Path, PathBuf};

use ff_core::files::write_atomic;

use crate::{
    error::{Error, Result, shortened},
    table::{Record, Table, read_csv},
    task::{PerTask, Task},
};

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
    extra_columns: Vec<String>,
    rows: Vec<Row>,
}

/// One face: its image file and its three labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Image file, relative to the images folder (or absolute).
    pub file: String,
    /// Label strings: neither empty nor with blanks around them.
    pub labels: PerTask<String>,
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
    /// twice; a row has the wrong number of fields, an empty file or label, a file outside the images folder, or is
    /// not UTF-8 (file and line are named).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::read_with(path, FilePaths::InsideRoot)
    }

    /// As [`Manifest::read`], and says what its files may be.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn read_with(path: impl AsRef<Path>, files: FilePaths) -> Result<Self> {
        let path = path.as_ref();
        let manifest = Self::parse(path, &read_csv(path)?)?;
        if files == FilePaths::InsideRoot
            && let Some(row) = manifest.rows.iter().find(|row| leaves_root(Path::new(&row.file)))
        {
            let file = shortened(&row.file);
            let reason = format!(
                "expected a file inside the images folder, found {file:?} (data.outside_root = true allows it)"
            );
            return Err(Error::BadRow { path: path.to_owned(), line: row.line, reason });
        }
        Ok(manifest)
    }

    /// Checks CSV text that is already in memory, whatever its files are; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self> {
        /// A short row: memory for more is taken as rows come.
        const ROW_LEN: usize = 40;
        const MAX_ROWS_AT_ONCE: usize = 1 << 20;
        let path = path.into();
        let mut table = Table::new(&path, bytes)?;
        let header = Header::new(&path, &table.header)?;
        let mut rows = Vec::with_capacity((bytes.len() / ROW_LEN).min(MAX_ROWS_AT_ONCE));
        while let Some(record) = table.next()? {
            let line = record.line;
            let row = header.row(&record);
            rows.push(row.map_err(|reason| Error::BadRow { path: path.clone(), line, reason })?);
        }
        let extra_columns = header.extra.into_iter().map(|(_, name)| name).collect();
        Ok(Manifest { path, extra_columns, rows })
    }

    /// A manifest from rows made elsewhere; lines are renumbered as [`Manifest::write`] will place them.
    ///
    /// # Errors
    /// A row that [`Manifest::read`] would refuse.
    pub fn new(path: impl Into<PathBuf>, extra_columns: Vec<String>, rows: Vec<Row>) -> Result<Self> {
        Self::parse(path, &to_csv(&extra_columns, &rows))
    }

    /// Files without labels (all labels are empty), numbered as lines from 1; only for [`Dataset::unlabelled`].
    ///
    /// [`Dataset::unlabelled`]: crate::Dataset::unlabelled
    pub(crate) fn unlabelled(files: impl IntoIterator<Item = String>) -> Self {
        let labels: PerTask<String> = PerTask::default();
        let row = |(file, line)| Row { file, labels: labels.clone(), extra: Vec::new(), line };
        let rows = files.into_iter().zip(1..).map(row).collect();
        Manifest { path: PathBuf::from("file list"), extra_columns: Vec::new(), rows }
    }

    /// The CSV that the rows came from.
    pub fn path(&self) -> &Path {
        &self.path
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

    /// Names of the columns beyond the required four, in file order.
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
                    return Err(Error::BadRow { path: self.path.clone(), line: row.line, reason });
                }
            }
        }
        if rows.is_empty() {
            return Err(bad("expected a row that is True, found none".to_owned()));
        }
        Ok(Manifest { path: self.path.clone(), extra_columns: self.extra_columns.clone(), rows })
    }

    /// The label strings of a task, row by row.
    pub fn labels(&self, task: Task) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row.labels[task].as_str())
    }

    /// The manifest as CSV text: `file, age, gender, race`, then the extra columns. Lines end in `\n`.
    pub fn to_csv(&self) -> Vec<u8> {
        to_csv(&self.extra_columns, &self.rows)
    }

    /// Writes the CSV whole: no reader ever sees half a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(write_atomic(path.as_ref(), &self.to_csv())?)
    }
}

fn to_csv(extra_columns: &[String], rows: &[Row]) -> Vec<u8> {
    const IN_MEMORY: &str = "writing into memory cannot fail";
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    let names = [FILE].into_iter().chain(Task::ALL.map(Task::name));
    writer.write_record(names.chain(extra_columns.iter().map(String::as_str))).expect(IN_MEMORY);
    for row in rows {
        let fields = [&row.file].into_iter().chain(row.labels.values()).chain(&row.extra);
        writer.write_record(fields).expect(IN_MEMORY);
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

/// Where each column stands.
struct Header {
    file: usize,
    labels: PerTask<usize>,
    extra: Vec<(usize, String)>,
}

impl Header {
    fn new(path: &Path, names: &[String]) -> Result<Self> {
        let required = [FILE].into_iter().chain(Task::ALL.map(Task::name));
        let place = |column: &str| names.iter().position(|name| name == column);
        let missing: Vec<String> =
            required.clone().filter(|&column| place(column).is_none()).map(str::to_owned).collect();
        if !missing.is_empty() {
            let found = names.iter().filter(|name| !name.is_empty()).map(|name| shortened(name)).collect();
            return Err(Error::MissingColumns { path: path.to_owned(), missing, found });
        }
        let place = |column| place(column).expect("checked above");
        let is_index = |name: &str| name.is_empty() || name.starts_with("Unnamed: ");
        let extra = names.iter().enumerate();
        let extra = extra.filter(|(_, name)| !required.clone().any(|r| r == *name) && !is_index(name));
        Ok(Header {
            file: place(FILE),
            labels: PerTask::from_fn(|task| place(task.name())),
            extra: extra.map(|(i, name)| (i, name.clone())).collect(),
        })
    }

    /// A row, or what is wrong with it.
    fn row(&self, record: &Record) -> Result<Row, String> {
        let field = |i: usize, name: &str| match record.fields[i] {
            text if text.trim().is_empty() => Err(format!("expected a value in column {name}, found none")),
            text => Ok(text),
        };
        let label = |task: Task| {
            let text = field(self.labels[task], task.name())?.trim();
            // As where a quote was forgotten, and the rest of the row and the next one are taken for a label.
            if text.contains(['\n', '\r']) {
                let found = shortened(text);
                return Err(format!("column {task}: expected a label in one line, found {found:?}"));
            }
            Ok(text.to_owned())
        };
        Ok(Row {
            file: field(self.file, FILE)?.to_owned(),
            labels: PerTask::try_from_fn(label)?,
            extra: self.extra.iter().map(|&(i, _)| record.fields[i].to_owned()).collect(),
            line: record.line,
        })
    }
}
