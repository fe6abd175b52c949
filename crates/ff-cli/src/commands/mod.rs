//! One file a command.

pub mod audit;
pub mod bench;
pub mod evaluate;
pub mod report;
pub mod sanity;
pub mod split;
pub mod summary;
pub mod train;
