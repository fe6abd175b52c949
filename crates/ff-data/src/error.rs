//! Everything that can go wrong between a CSV file and a batch, as one enum.
//!
//! Messages name the file, the row or the label, and say what was expected and what was found. `Display` gives the
//! whole message: nothing is left to a `source()` chain that a caller may forget to print.

use std::path::{Path, PathBuf};

use ff_core::{schema, table, text::list};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),

    /// What is wrong with tasks, a label list or a label.
    #[error(transparent)]
    Schema(#[from] schema::Error),

    /// A CSV, or a row of it, that cannot be used.
    #[error(transparent)]
    Table(#[from] table::Error),

    /// A CSV lacks required columns.
    #[error("{}: missing column {}: expected {}, found {}", path.display(), list(missing), list(expected), list(found))]
    MissingColumns {
        /// The CSV.
        path: PathBuf,
        /// The columns that it should have.
        expected: Vec<String>,
        /// Every required column that is not there.
        missing: Vec<String>,
        /// The columns that are there.
        found: Vec<String>,
    },

    /// A file beside CSVs and images that cannot be used: of fingerprints, say.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },

    /// A file that would be lost.
    #[error("{}: expected no file, or one that an earlier split wrote and nobody changed, found another", path.display())]
    WouldReplace {
        /// The file that is there.
        path: PathBuf,
    },

    /// A folder whose files would be lost.
    #[error("{}: {reason}", path.display())]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },

    /// A column that does not say which rows to take.
    #[error("{}: subset {column:?}: {reason}", path.display())]
    Subset {
        /// The CSV.
        path: PathBuf,
        /// The column's name.
        column: String,
        /// What was expected and found.
        reason: String,
    },

    /// A manifest without rows where some are needed.
    #[error("{}: expected at least one row, found none", path.display())]
    NoRows {
        /// The CSV.
        path: PathBuf,
    },

    /// One of the three split CSVs is missing.
    #[error("{}: split file not found: expected ff_train.csv, ff_val.csv, ff_test.csv in {}, found {}", path.display(), dir.display(), list(found))]
    MissingSplit {
        /// The file looked for.
        path: PathBuf,
        /// The folder looked in.
        dir: PathBuf,
        /// The CSV files that are there.
        found: Vec<String>,
    },

    /// A name that is none of the known ones.
    #[error("expected {expected}, found {found:?}")]
    UnknownName {
        /// The names known.
        expected: &'static str,
        /// The name given.
        found: String,
    },

    /// The images folder is not there.
    #[error("images folder not found: expected a folder at {}", .0.display())]
    NoImagesRoot(PathBuf),

    /// Bytes that do not decode into an image.
    #[error("{0}")]
    Decode(String),

    /// An image that a row names could not be used.
    #[error("image {}: {reason} (named in {} line {line}, images folder {})", path.display(), csv.display(), root.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// The CSV that names it.
        csv: PathBuf,
        /// 1-based line in the CSV.
        line: u64,
        /// The images folder.
        root: PathBuf,
        /// What is wrong with it.
        reason: Box<Error>,
    },

    /// An image without labels could not be used.
    #[error("image {}: {reason}", path.display())]
    ImageInput {
        /// The image file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<Error>,
    },

    /// Images that cannot be used, found before anything is done with the others.
    #[error("{bad} of {files} images cannot be used:{}", lines(first, *bad))]
    BadImages {
        /// How many.
        bad: usize,
        /// Of how many.
        files: usize,
        /// What is wrong with the first of them.
        first: Vec<String>,
    },

    /// The program failed at an image, not the image.
    #[error("worker panicked: {0}")]
    Panicked(String),

    /// What was given instead of images has none, or cannot be read as a list of them.
    #[error("{input}: {message}")]
    BadInput {
        /// The folder, pattern or list.
        input: String,
        /// What was expected and found.
        message: String,
    },

    /// A face's box that cannot be cut out.
    #[error("{0}")]
    BadBox(String),

    /// A setting that cannot work.
    #[error("{0}")]
    Config(String),

    /// The loader's threads are gone (one of them panicked).
    #[error("loader stopped: expected batch {batch_idx} of epoch {epoch}, found its threads gone")]
    LoaderStopped {
        /// The epoch.
        epoch: u64,
        /// The batch waited for.
        batch_idx: usize,
    },
}

impl Error {
    /// A row of a CSV that cannot be used.
    pub(crate) fn bad_row(csv: &Path, line: u64, reason: String) -> Self {
        table::Error::BadRow { path: csv.to_owned(), line, reason }.into()
    }

    /// A CSV that cannot be used as a whole.
    pub(crate) fn bad_csv(csv: &Path, reason: String) -> Self {
        table::Error::BadFile { path: csv.to_owned(), reason }.into()
    }

    /// Whether an image is at fault, so that others may be usable. Too many open files, a broken disk, no memory, a
    /// panic: all images would be next, and leaving them out would be wrong.
    pub fn is_bad_image(&self) -> bool {
        match self {
            Error::Image { reason, .. } | Error::ImageInput { reason, .. } => reason.is_bad_image(),
            Error::Decode(_) | Error::BadBox(_) => true,
            Error::Io(error) => concerns_one_file(error),
            _ => false,
        }
    }
}

/// Errors about a file's name, kind or permissions; what else may go wrong is the system's.
fn concerns_one_file(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        InvalidData, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
    };
    let kinds =
        [InvalidData, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied];
    // The kind of links that loop cannot be named yet.
    kinds.contains(&error.kind()) || format!("{:?}", error.kind()) == "FilesystemLoop"
}

fn lines(first: &[String], n: usize) -> String {
    let mut text: String = first.iter().map(|line| format!("\n  {line}")).collect();
    if n > first.len() {
        text += &format!("\n  and {} more", n - first.len());
    }
    text
}
