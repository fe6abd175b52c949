//! A split CSV as checked rows.
//!
//! Columns `file, age, gender, race` are required, in any order; others (`service_test`, `split`, ...) are kept as
//! text. A pandas index column, a byte order mark and CRLF line ends are tolerated. Every row remembers its line, so
//! that a broken image can later be traced to the row that names it. No image is touched here.

use std::path::{Path, PathBuf};

use csv::StringRecord;
use ff_core::files::write_atomic;

use crate::{
    error::{Error, Result},
    task::{PerTask, Task},
};

const FILE: &str = "file";

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
    /// Label strings, not empty.
    pub labels: PerTask<String>,
    /// Further columns as text, in the order of [`Manifest::extra_columns`].
    pub extra: Vec<String>,
    /// 1-based line in the CSV.
    pub line: u64,
}

impl Manifest {
    /// Reads and checks a CSV file.
    ///
    /// # Errors
    /// The file cannot be read; columns are missing (all are named, with those found); a row has the wrong number of
    /// fields, an empty file or an empty label, or is not UTF-8 (file and line are named).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &fs_err::read(path)?)
    }

    /// Checks CSV text that is already in memory; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self> {
        let path = path.into();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut lines = LineCounter::new(bytes);
        let mut record = StringRecord::new();

        let mut read = |record: &mut StringRecord| -> Result<Option<u64>> {
            let start = reader.position().byte();
            match reader.read_record(record) {
                Ok(false) => Ok(None),
                Ok(true) => Ok(Some(lines.at(start))),
                Err(error) => Err(Error::BadRow {
                    path: path.clone(),
                    line: lines.at(start),
                    reason: match error.kind() {
                        csv::ErrorKind::Utf8 { err, .. } => format!("expected UTF-8 text, found {err}"),
                        _ => error.to_string(),
                    },
                }),
            }
        };

        read(&mut record)?;
        let header = Header::new(&path, &record)?;
        let mut rows = Vec::with_capacity(bytes.len() / 40);
        while let Some(line) = read(&mut record)? {
            let row = header.row(&record, line);
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

/// Where each column stands.
struct Header {
    n_fields: usize,
    file: usize,
    labels: PerTask<usize>,
    extra: Vec<(usize, String)>,
}

impl Header {
    fn new(path: &Path, record: &StringRecord) -> Result<Self> {
        let names: Vec<&str> = record.iter().map(str::trim).collect();
        let required = [FILE].into_iter().chain(Task::ALL.map(Task::name));
        let missing: Vec<String> =
            required.clone().filter(|n| !names.contains(n)).map(str::to_owned).collect();
        if !missing.is_empty() {
            let found = names.iter().filter(|n| !n.is_empty()).map(|&n| n.to_owned()).collect();
            return Err(Error::MissingColumns { path: path.to_owned(), missing, found });
        }
        for column in required {
            let count = names.iter().filter(|&&name| name == column).count();
            if count > 1 {
                return Err(Error::DuplicateColumn {
                    path: path.to_owned(),
                    column: column.to_owned(),
                    count,
                });
            }
        }
        let place = |column| names.iter().position(|&name| name == column).expect("checked above");
        let is_required = |name: &str| name == FILE || Task::ALL.iter().any(|task| task.name() == name);
        let is_index = |name: &str| name.is_empty() || name.starts_with("Unnamed: ");
        let extra = names.iter().enumerate().filter(|(_, name)| !is_required(name) && !is_index(name));
        Ok(Header {
            n_fields: names.len(),
            file: place(FILE),
            labels: PerTask::from_fn(|task| place(task.name())),
            extra: extra.map(|(i, &name)| (i, name.to_owned())).collect(),
        })
    }

    /// A row, or what is wrong with it.
    fn row(&self, record: &StringRecord, line: u64) -> Result<Row, String> {
        if record.len() != self.n_fields {
            return Err(format!("expected {} fields, found {}", self.n_fields, record.len()));
        }
        let field = |i: usize, name: &str| match &record[i] {
            text if text.trim().is_empty() => Err(format!("expected a value in column {name}, found none")),
            text => Ok(text.to_owned()),
        };
        Ok(Row {
            file: field(self.file, FILE)?,
            labels: PerTask::try_from_fn(|task| field(self.labels[task], task.name()))?,
            extra: self.extra.iter().map(|&(i, _)| record[i].to_owned()).collect(),
            line,
        })
    }
}

/// Byte offset -> 1-based line. The csv crate's own count is one behind after CRLF and before blank lines, for its
/// records start at the line end that the one before left.
pub(crate) struct LineCounter<'a> {
    bytes: &'a [u8],
    offset: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        LineCounter { bytes, offset: 0, line: 1 }
    }

    /// The line of the record that is read from `start` on; offsets must not go back.
    pub(crate) fn at(&mut self, start: u64) -> u64 {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.bytes.len());
        let blank = self.bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let end = start + blank;
        self.line += self.bytes[self.offset..end].iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.offset = end;
        self.line
    }
}
