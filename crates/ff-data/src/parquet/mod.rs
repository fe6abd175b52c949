//! Parquet files, as far as data sets of images on the hub need them: flat or nested columns of booleans, 64-bit
//! numbers and bytes, each row with one value or none; pages of both versions, plain or by dictionary, uncompressed or
//! snappy.
//!
//! Format: <https://github.com/apache/parquet-format>. Anything else that is asked for is an error that names it.
//! Invariant: any bytes are read or refused; memory is bounded by one page of at most 256 MiB, the column's dictionary
//! and the footer, whatever the file claims. The crate `parquet` promises neither, and takes as long to compile as a
//! third of this workspace.

mod footer;
mod hybrid;
mod page;
mod thrift;

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use footer::{Chunk, Column, Footer, PhysicalType};
use fs_err as fs;
use page::Page;
pub(crate) use page::Value;

use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"PAR1";
/// A row group says some hundred bytes of each of its columns.
const MAX_FOOTER: u64 = 16 << 20;

/// An open file, whose footer is read.
#[derive(Debug)]
pub(crate) struct ParquetFile {
    path: PathBuf,
    file: fs::File,
    footer: Footer,
}

/// What values a column has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Bool,
    Int,
    Bytes,
}

/// Why values were not handed over: the page is bad, or whoever got them has had enough.
enum Stop {
    Page(String),
    Taker(Error),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Page(reason)
    }
}

impl ParquetFile {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// It cannot be read, or is no Parquet file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::BadFile { path: path.to_owned(), reason };
        if !fs::metadata(path)?.is_file() {
            return Err(bad("expected a regular file, found a folder, pipe or device".to_owned()));
        }
        let mut file = fs::File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let mut tail = [0; 8];
        if len < 12 {
            return Err(bad(format!("expected a Parquet file of at least 12 bytes, found {len}")));
        }
        file.seek(SeekFrom::Start(len - 8))?;
        file.read_exact(&mut tail)?;
        let ([a, b, c, d], magic) = tail.split_first_chunk::<4>().expect("eight bytes have four and four");
        if magic != MAGIC {
            let reason = format!("expected a Parquet file, which ends in PAR1, found {magic:02x?}");
            return Err(bad(reason));
        }
        let footer_len = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        if footer_len > (len - 12).min(MAX_FOOTER) {
            let most = (len - 12).min(MAX_FOOTER);
            return Err(bad(format!("expected a footer of at most {most} bytes, found {footer_len}")));
        }
        let pages_end = len - 8 - footer_len;
        file.seek(SeekFrom::Start(pages_end))?;
        let mut bytes = vec![0; footer_len as usize];
        file.read_exact(&mut bytes)?;
        let footer = Footer::parse(&bytes, pages_end).map_err(|e| bad(format!("footer: {e}")))?;
        Ok(Self { path: path.to_owned(), file, footer })
    }

    /// Rows in all row groups.
    pub(crate) fn n_rows(&self) -> u64 {
        self.footer.row_groups.iter().map(|group| group.n_rows).sum()
    }

    /// What whoever wrote the file left under a key.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        self.footer.notes.get(key).map(String::as_str)
    }

    /// The names of all columns with values, `image.bytes` for one in another.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.footer.columns.iter().map(|column| column.name.as_str())
    }

    /// Hands the first `limit` rows' values of a column to `each`, with the row's index; `None` where there is no
    /// value. An error of `each` ends it.
    ///
    /// # Errors
    /// There is no such column, it is of another type, or damaged: the message names row group and column.
    pub(crate) fn values(
        &self,
        name: &str,
        expected: ColumnType,
        limit: u64,
        each: &mut dyn FnMut(u64, Option<Value<'_>>) -> Result<()>,
    ) -> Result<()> {
        let column = self.column(name, expected)?;
        let mut row = 0;
        for (i, group) in self.footer.row_groups.iter().enumerate() {
            if row >= limit {
                break;
            }
            let mut in_limit = |value: Option<Value<'_>>| {
                row += 1;
                if row <= limit { each(row - 1, value).map_err(Stop::Taker) } else { Ok(()) }
            };
            self.chunk(&group.chunks[column.place], column, group.n_rows, &mut in_limit).map_err(|stop| {
                match stop {
                    Stop::Page(reason) => self.bad(format!("row group {i}, column {name}: {reason}")),
                    Stop::Taker(error) => error,
                }
            })?;
        }
        Ok(())
    }

    fn chunk(
        &self,
        chunk: &Chunk,
        column: &Column,
        n_rows: u64,
        each: &mut dyn FnMut(Option<Value<'_>>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut file = self.file.file();
        file.seek(SeekFrom::Start(chunk.start)).map_err(|e| e.to_string())?;
        let mut pages = BufReader::new(file).take(chunk.len);
        let (mut dictionary, mut done) = (None, 0);
        while done < n_rows {
            let page = Page::read(&mut pages)?;
            match page.dictionary(chunk.codec, column.kind)? {
                Some(found) => dictionary = Some(found),
                None => done += page.values(chunk.codec, column, dictionary.as_ref(), n_rows - done, each)?,
            }
        }
        Ok(())
    }

    fn column(&self, name: &str, expected: ColumnType) -> Result<&Column> {
        let column = self.footer.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<_> = self.columns().map(str::to_owned).collect();
            self.bad(format!("expected a column {name}, found {}", ff_core::text::list(&names)))
        })?;
        let found = match column.kind {
            PhysicalType::Boolean => Some(ColumnType::Bool),
            PhysicalType::Int64 => Some(ColumnType::Int),
            PhysicalType::ByteArray => Some(ColumnType::Bytes),
            PhysicalType::Other(_) => None,
        };
        if found != Some(expected) || column.repeated {
            let several = if column.repeated { ", several a row" } else { "" };
            let found = format!("{:?}{several}", column.kind);
            return Err(self.bad(format!("column {name}: expected {expected:?}, found {found}")));
        }
        Ok(column)
    }

    fn bad(&self, reason: String) -> Error {
        Error::BadFile { path: self.path.clone(), reason }
    }
}
