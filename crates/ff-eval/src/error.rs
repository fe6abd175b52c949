//! What can go wrong in this crate.

use std::path::PathBuf;

use ff_core::text::{either, shortened};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while predictions are read and judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tasks or labels that make no schema.
    #[error(transparent)]
    Schema(#[from] ff_core::schema::Error),
    /// A CSV that is none.
    #[error(transparent)]
    Table(#[from] ff_core::table::Error),
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file is not what it should be.
    #[error("{}: {message}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// There is nothing to judge by.
    #[error("expected samples to evaluate, found {found}")]
    NoSamples {
        /// What there was instead.
        found: String,
    },
    /// Rows of two files that should be about the same images.
    #[error("expected the same files in predictions and labels, found {found}")]
    NoJoin {
        /// What is in one and not in the other.
        found: String,
    },
    /// Two sets of predictions that are not of the same samples.
    #[error("expected two sets of predictions of the same samples: {0}")]
    NotComparable(String),
    /// Predictions from which thresholds a group cannot be found, or to which they do not apply.
    #[error("thresholds by group: {0}")]
    NoThresholds(String),
    /// A requirement that cannot be read, or asks for what there is not.
    #[error("requirement {text:?}: {reason}")]
    BadRequirement {
        /// As it was given.
        text: String,
        /// What was expected and found.
        reason: String,
    },
    /// A name to group by that is neither a task nor a column.
    #[error("expected columns to group by: {}, found {:?}", either(known), shortened(found))]
    NoSuchColumn {
        /// The names that there are.
        known: Vec<String>,
        /// The name given.
        found: String,
    },
    /// Columns that make more groups than anybody reads.
    #[error("expected at most {most} groups, found {found} by {by}")]
    TooManyGroups {
        /// How many there may be.
        most: usize,
        /// How many there are.
        found: usize,
        /// What makes them.
        by: String,
    },
}
