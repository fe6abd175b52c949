//! One file a command.

pub mod audit;
pub mod bench;
pub mod compare;
pub mod completions;
pub mod crop;
pub mod data;
pub mod embed;
pub mod equalize;
pub mod evaluate;
pub mod export;
pub mod predict;
pub mod report;
pub mod sanity;
#[cfg(feature = "serve")]
pub mod serve;
mod sides;
pub mod soup;
pub mod split;
pub mod summary;
pub mod sweep;
pub mod train;
pub mod weights;
