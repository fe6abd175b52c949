//! What can go wrong in this crate.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while pages are made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record of an evaluation that cannot be read.
    #[error(transparent)]
    Eval(#[from] ff_eval::Error),
    /// A configuration or a record that cannot be read.
    #[error(transparent)]
    Train(#[from] ff_train::Error),
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A picture cannot be made.
    #[error("picture: {0}")]
    Image(#[from] image::ImageError),
    /// A file of a run is not what it should be.
    #[error("{}: {message}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
}
