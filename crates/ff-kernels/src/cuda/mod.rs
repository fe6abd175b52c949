//! The GPU engine's machine: the CUDA driver and cuDNN carry out what [`gpu`](crate::gpu) writes down.
//!
//! Everything here works on raw device addresses, in the order of one stream: candle's, so that tensors and programs
//! see each other's results without waiting. A second stream only fills [`Uploads`]. Between the beginning and the end
//! of a capture nothing allocates and nothing waits.
//!
//! Addresses in [`Bases`](crate::gpu::Bases) are the caller's word: they must be of this device, hold as many bytes as
//! the commands touch, and stay so until the stream has passed.
//!
//! | module | what |
//! |---|---|
//! | `driver` | the device, its streams, its kernels |
//! | `memory` | bytes on the device, page-locked bytes on the host |
//! | `upload` | batches in, small results out, without stopping the stream |
//! | `cudnn` | convolutions, and the search for the fastest way to do each |
//! | `testbed` | a GPU for the checks of every kernel beside its twin |
//! | `engine` | a program on a device, its passes captured as CUDA graphs |

mod cudnn;
mod driver;
mod engine;
mod memory;
mod testbed;
mod upload;

pub use crate::gpu::error::{Error, Result};
pub use driver::{Found, Gpu};
pub use engine::{Engine, Images, Pass};
pub use memory::Pinned;
pub use testbed::Testbed;
pub use upload::{HostBytes, Readback, Uploaded, Uploads};
