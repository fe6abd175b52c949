//! What every kernel stands on: threads, buffers, checked shapes, and what threads synchronise by.

pub mod buffer;
pub mod shape;
pub(crate) mod sync;
pub mod threads;
