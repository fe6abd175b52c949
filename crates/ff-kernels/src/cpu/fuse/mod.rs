//! What rides on a kernel's loads and stores, so that it needs no pass of its own.

pub mod load;
pub mod store;
pub mod sums;
