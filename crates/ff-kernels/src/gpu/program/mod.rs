//! The GPU engine's work as data: which kernel runs on which bytes, in which order.
//!
//! A [`Program`] is the backbone for one batch size: lists of [`Command`]s over one arena whose every byte is placed
//! beforehand. It knows no driver.
//!
//! | module | what |
//! |---|---|
//! | [`command`] | kernels launched and convolutions asked for, and the memory that they name |
//! | `arena` | places in one allocation, reused where lifetimes do not overlap |
//! | `convs` | the convolutions of a backbone for one batch |
//! | `layers` | the commands of one layer: packing, BatchNorm, pooling |
//! | `train`, `infer` | the programs |
//! | [`batch`] | pixels to augmented, normalised activations |
//! | [`update`] | gradient norm and optimisers over flat vectors |

mod arena;
mod backbone;
pub mod batch;
pub mod command;
pub(in crate::gpu) mod convs;
mod infer;
pub(in crate::gpu) mod layers;
mod train;
pub mod update;

pub use backbone::Program;
pub use command::{
    Arg, BLOCK, Bases, Buffer, BufferPlace, Command, Constants, Convolve, Element, Geometry, Launch, Machine,
    Operation, buffers_of,
};
