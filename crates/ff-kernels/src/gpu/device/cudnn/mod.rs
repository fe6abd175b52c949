//! Convolutions by cuDNN's graph interface, each in the way that is fastest on this GPU.
//!
//! For every distinct (shapes, operation, element) cuDNN names engines, of which some are timed once; the fastest is
//! remembered as long as the [`Gpu`](super::Gpu) lives. What one convolution needs to run, its addresses included, is
//! bound beforehand, so that running is one call.
//!
//! Deterministic engines are preferred: with one choice of engines the same batch gives the same bits. The choice
//! itself is a matter of microseconds, hence not the same on every start.

mod algorithm;
mod convolution;
mod descriptor;
mod graph;
pub(super) mod handle;
mod plan;
mod search;

pub(super) use algorithm::Algorithm;
pub(super) use convolution::Convolution;
pub(super) use search::fastest;
