//! The GPU engine's work as data: which kernel runs on which bytes, in which order.
//!
//! A [`Program`] is the backbone for one batch size: lists of [`Command`]s over one arena whose every byte is placed
//! beforehand. It knows no driver. What carries it out is a [`Machine`]: `ff_kernels::cuda` on a GPU (feature `cuda`),
//! and in the tests a processor that runs the same kernel sources compiled for the host. So shapes, offsets, argument
//! orders and kernels are tested where there is no GPU; what is left to a GPU is the driver and cuDNN.
//!
//! Activations are NHWC in the element type of the program; statistics, coefficients, parameters and gradients are f32.
//!
//! | module | what |
//! |---|---|
//! | [`command`] | kernels launched and convolutions asked for, and the memory that they name |
//! | `arena` | places in one allocation, reused where lifetimes do not overlap |
//! | `layers` | the commands of one layer: packing, BatchNorm, pooling |
//! | `train`, `infer` | the programs |
//! | [`batch`] | pixels to augmented, normalised activations |
//! | [`error`] | what can go wrong on a GPU, in words |
//! | [`twins`] | every kernel beside its twin on the processor |
//! | [`update`] | gradient norm and optimisers over flat vectors |

mod arena;
pub mod batch;
pub mod command;
pub mod error;
mod infer;
mod layers;
mod program;
mod train;
pub mod twins;
pub mod update;

pub use command::{
    Arg, BLOCK, Bases, Buffer, Command, Convolve, Element, Geometry, Launch, Machine, Operation, Place,
    buffers_of,
};
pub use program::Program;
