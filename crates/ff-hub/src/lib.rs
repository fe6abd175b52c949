//! Models and data from the network: fetched once, continued when broken, checked by hash.
//!
//! The only crate that opens a connection. It knows where things lie and what they are known by, not what is in them:
//! tensors are ff-model's, tables ff-data's.

pub mod address;
pub mod catalogue;
mod error;
mod explain;
pub mod fairface;
pub mod hub;

pub use error::{Error, Result};

/// How far a download is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes that are here, those of an earlier, broken transfer included.
    pub done: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// Bytes of a download. The largest file that is known here has 250 MB; a server that sends without end must not fill
/// the disk.
const MAX_DOWNLOAD: u64 = 4 << 30;
/// How often a broken transfer is taken up again.
const RETRIES: usize = 4;
