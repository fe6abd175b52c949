//! Pooling: the stem's max-pool, the global average, and the reference path's max-pool over planes.

pub mod average;
pub mod max;
pub mod nchw;

pub use average::{global_average, global_average_backward};
pub use max::MaxPool;
