//! One file a command.

pub mod bench;
pub mod evaluate;
pub mod report;
pub mod sanity;
pub mod summary;
pub mod train;
