//! What can go wrong in this crate.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while fetching.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be fetched.
    #[error("{what}: {reason}")]
    Download {
        /// The repository or address.
        what: String,
        /// What happened, and what to do about it.
        reason: String,
    },
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
