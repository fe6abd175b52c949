//! What can go wrong in this crate before there is a client to tell.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while a server starts or waits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not one of this machine's.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The address can be reached from elsewhere, and there is no token.
    #[error(
        "{address} can be reached from other machines: expected a token that clients must send, found none; or listen \
         on 127.0.0.1"
    )]
    OpenToAll {
        /// The address.
        address: SocketAddr,
    },
    /// The token's file holds none that will do.
    #[error("{}: {message}", path.display())]
    BadToken {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// A file that is to be shown and cannot be used.
    #[error("{}: {message}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// Labels, images or decisions.
    #[error(transparent)]
    Data(#[from] ff_data::Error),
    /// Tasks that cannot be served.
    #[error("tasks: {message}")]
    BadTasks {
        /// What was expected and what was found.
        message: String,
    },
    /// A file, a thread or a socket; the message carries its name.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
