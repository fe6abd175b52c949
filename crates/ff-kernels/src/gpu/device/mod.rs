//! The GPU engine's machine: the CUDA driver and cuDNN carry out what [`gpu`](crate::gpu) writes down.
//!
//! Everything here works on raw device addresses, in the order of one stream: candle's, so that tensors and programs
//! see each other's results without waiting. A second stream only fills [`Uploads`]. Between the beginning and the end
//! of a capture nothing allocates and nothing waits.
//!
//! What commands work on comes in as a [`Memory`], whose [`Span`]s stay allocated until the stream has passed and know
//! their lengths, which are checked against what the commands touch. [`Gpu::launch`] and [`Testbed`] take any command,
//! and are unsafe.
//!
//! | module | what |
//! |---|---|
//! | `driver` | the device, its streams, its kernels |
//! | `memory` | bytes on the device, page-locked bytes on the host |
//! | `span` | memory that commands may work on |
//! | `step` | the optimiser's launches |
//! | `upload` | batches in, small results out, without stopping the stream |
//! | `cudnn` | convolutions, and the search for the fastest way to do each |
//! | `testbed` | a GPU for the checks of every kernel beside its twin |
//! | `nccl` | GPUs of one job, a rank each, that talk to each other (feature `nccl`) |
//! | `engine` | a program on a device, its passes captured as CUDA graphs |

mod cudnn;
mod driver;
mod engine;
mod memory;
#[cfg(feature = "nccl")]
pub mod nccl;
mod span;
mod step;
mod testbed;
mod upload;

pub use crate::gpu::error::{Error, Result};
pub use driver::{Found, Gpu};
pub use engine::{Engine, Images, Pass};
pub use memory::Pinned;
pub use span::{Memory, OnStream, Span};
pub use testbed::{Testbed, check_kernels};
pub use upload::{HostBytes, Readback, Uploaded, Uploads};
