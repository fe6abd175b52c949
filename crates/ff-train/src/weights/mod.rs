//! Weights from elsewhere: what a run begins with, and how they get onto this machine.

pub(crate) mod bundled;
mod init;
pub mod pretrained;

pub use init::{Init, cached_weights, downloaded, init_is_file, initialise};
