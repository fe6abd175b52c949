//! Numeric kernels on plain slices: what the network, its optimiser and its loader spend their time in.
//!
//! Shapes and layouts are stated on every function; lengths are checked on entry and a mismatch panics, since it is
//! a bug of the caller. Results are the same from run to run for the same inputs and thread count. No candle, no
//! files, no configuration. This is the only crate of the workspace that may contain `unsafe`.

pub mod optim;
pub mod pool_nchw;
pub mod process;
