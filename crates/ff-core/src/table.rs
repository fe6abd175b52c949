//! CSV text as checked rows of text fields, within limits.
//!
//! What the readers of splits, of image lists and of predictions share. The first row is the header; every later one
//! has as many fields. Whatever the bytes are, memory beyond them stays below a mebibyte and there is no panic. What
//! the columns mean is for others to say. A byte order mark, CRLF line ends and blank lines are tolerated.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use csv_core::ReadRecordResult;

use crate::files::read_within;
use crate::text::shortened;

/// Bytes of a CSV: twice the table of ten million faces.
pub const MAX_FILE_LEN: u64 = 1 << 30;
/// Rows of a CSV.
const MAX_ROWS: usize = 1 << 24;
/// Bytes of a row, without its commas and quotes.
const MAX_ROW_LEN: usize = 1 << 20;
/// Bytes of a field: sixteen times the longest path.
pub const MAX_FIELD_LEN: usize = 1 << 16;
/// Columns.
const MAX_COLUMNS: usize = 1024;

/// What is wrong with a CSV.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A CSV that cannot be used as a whole.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// A column stands twice in the header.
    #[error("{}: expected one column {column:?}, found {count}", path.display())]
    DuplicateColumn {
        /// The CSV.
        path: PathBuf,
        /// The column's name.
        column: String,
        /// How often it stands there.
        count: usize,
    },
    /// A row that cannot be used.
    #[error("{}:{line}: {reason}", path.display())]
    BadRow {
        /// The CSV.
        path: PathBuf,
        /// 1-based line in the file.
        line: u64,
        /// What was expected and found.
        reason: String,
    },
}

/// A CSV that is read row by row.
pub struct Table<'a> {
    path: PathBuf,
    /// Names of the columns, without blanks around them.
    pub header: Vec<String>,
    bytes: &'a [u8],
    at: usize,
    n_rows: usize,
    reader: csv_core::Reader,
    lines: LineCounter<'a>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// A row below the header.
pub struct Record<'t> {
    /// 1-based line in the file.
    pub line: u64,
    /// As many as the header has columns.
    pub fields: Vec<&'t str>,
}

/// A field as RFC 4180 wants it: in quotes where it has to be.
pub fn quoted(field: &str) -> Cow<'_, str> {
    match field.contains([',', '"', '\n', '\r']) {
        true => Cow::Owned(format!("\"{}\"", field.replace('"', "\"\""))),
        false => Cow::Borrowed(field),
    }
}

/// The bytes of a CSV file.
///
/// # Errors
/// No regular file, too long, or not readable.
pub fn read_csv(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    read_within(path, MAX_FILE_LEN, &mut bytes)?;
    Ok(bytes)
}

impl<'a> Table<'a> {
    /// Reads the header; `path` only names the CSV in errors.
    ///
    /// # Errors
    /// No header, text that is no UTF-8, a column that stands twice, or more columns than anybody has.
    pub fn new(path: &Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let bad = |found: &str| Err(Error::BadFile { path: path.to_owned(), reason: found.to_owned() });
        match bytes {
            [] => return bad("expected a header and rows, found an empty file"),
            [0xff, 0xfe, ..] | [1..=255, 0, ..] => {
                return bad("expected UTF-8 text, found UTF-16 (little-endian)");
            }
            [0xfe, 0xff, ..] | [0, 1..=255, ..] => {
                return bad("expected UTF-8 text, found UTF-16 (big-endian)");
            }
            _ => {}
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut table = Table {
            path: path.to_owned(),
            header: Vec::new(),
            bytes,
            at: 0,
            n_rows: 0,
            reader: csv_core::Reader::new(),
            lines: LineCounter::new(bytes),
            text: vec![0; MAX_ROW_LEN],
            // One more than the header may have, so that one too many shows.
            ends: vec![0; MAX_COLUMNS + 1],
        };
        let Some((line, n_fields)) = table.advance()? else {
            return bad("expected a header and rows, found blank lines only");
        };
        let names: Vec<String> = table.fields(line, n_fields)?.iter().map(|n| n.trim().to_owned()).collect();
        for (i, column) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if names[..i].contains(column) {
                let count = names.iter().filter(|name| *name == column).count();
                let (path, column) = (path.to_owned(), shortened(column));
                return Err(Error::DuplicateColumn { path, column, count });
            }
        }
        table.header = names;
        Ok(table)
    }

    /// The next row, `None` after the last.
    ///
    /// # Errors
    /// A row that is too long, has not as many fields as the header, is no UTF-8, or has a quote that is not closed;
    /// its line is named.
    pub fn next_row(&mut self) -> Result<Option<Record<'_>>, Error> {
        let Some((line, n_fields)) = self.advance()? else { return Ok(None) };
        let expected = self.header.len();
        if n_fields != expected {
            return Err(self.bad_row(line, format!("expected {expected} fields, found {n_fields}")));
        }
        self.n_rows += 1;
        if self.n_rows > MAX_ROWS {
            return Err(self.bad_row(line, format!("expected at most {MAX_ROWS} rows, found more")));
        }
        Ok(Some(Record { line, fields: self.fields(line, n_fields)? }))
    }

    fn bad_row(&self, line: u64, reason: String) -> Error {
        Error::BadRow { path: self.path.clone(), line, reason }
    }

    /// Takes the next row's bytes apart: its line and how many fields it has.
    fn advance(&mut self) -> Result<Option<(u64, usize)>, Error> {
        let start = self.at;
        let line = self.lines.at(start);
        let (mut n_text, mut n_fields) = (0, 0);
        loop {
            let input = &self.bytes[self.at..];
            let (result, n_in, n_out, n_ends) =
                self.reader.read_record(input, &mut self.text[n_text..], &mut self.ends[n_fields..]);
            let at_end = input.is_empty();
            (self.at, n_text, n_fields) = (self.at + n_in, n_text + n_out, n_fields + n_ends);
            let reason = match result {
                ReadRecordResult::InputEmpty => continue,
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record if at_end && ends_in_quotes(&self.bytes[start..]) => {
                    "expected a closing quote, found the end of the file".to_owned()
                }
                ReadRecordResult::Record if n_fields <= MAX_COLUMNS => return Ok(Some((line, n_fields))),
                ReadRecordResult::Record | ReadRecordResult::OutputEndsFull => {
                    format!("expected at most {MAX_COLUMNS} columns, found more")
                }
                ReadRecordResult::OutputFull => format!(
                    "expected a row of at most {MAX_ROW_LEN} bytes, found a longer one; a quote may not be closed"
                ),
            };
            return Err(self.bad_row(line, reason));
        }
    }

    /// The fields of the row that was taken apart last.
    fn fields(&self, line: u64, n_fields: usize) -> Result<Vec<&str>, Error> {
        let mut fields = Vec::with_capacity(n_fields);
        let mut start = 0;
        for (i, &end) in self.ends[..n_fields].iter().enumerate() {
            let bytes = &self.text[start..end];
            start = end;
            let place = || match self.header.get(i) {
                Some(name) if !name.is_empty() => format!("column {}", shortened(name)),
                _ => format!("field {}", i + 1),
            };
            if bytes.len() > MAX_FIELD_LEN {
                let reason =
                    format!("{}: expected at most {MAX_FIELD_LEN} bytes, found {}", place(), bytes.len());
                return Err(self.bad_row(line, reason));
            }
            if bytes.contains(&0) {
                return Err(self.bad_row(line, format!("{}: expected text, found a NUL byte", place())));
            }
            fields.push(std::str::from_utf8(bytes).map_err(|error| {
                let found = bytes[error.valid_up_to()];
                self.bad_row(line, format!("{}: expected UTF-8 text, found the byte {found:#04x}", place()))
            })?);
        }
        Ok(fields)
    }
}

/// Whether a row that nothing follows leaves a quote open.
fn ends_in_quotes(row: &[u8]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Start,
        Bare,
        Quoted,
        /// A quote in quotes: the end, or the first of two that stand for one.
        Quote,
    }
    let state = row.iter().fold(State::Start, |state, byte| match (state, byte) {
        (State::Start | State::Quote, b'"') => State::Quoted,
        (State::Quoted, b'"') => State::Quote,
        (State::Quoted, _) => State::Quoted,
        (_, b',' | b'\r' | b'\n') => State::Start,
        _ => State::Bare,
    });
    state == State::Quoted
}

/// Byte offset -> 1-based line. A row starts at the line end that the one before left.
struct LineCounter<'a> {
    bytes: &'a [u8],
    offset: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        LineCounter { bytes, offset: 0, line: 1 }
    }

    /// The line of the record that is read from `start` on; offsets must not go back.
    fn at(&mut self, start: usize) -> u64 {
        let blank = self.bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let end = start + blank;
        self.line += self.bytes[self.offset..end].iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.offset = end;
        self.line
    }
}
