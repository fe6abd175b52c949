//! The GPU engine: what is to be done as data, the kernels that do it, and who carries it out.
//!
//! What carries a [`Program`] out is a [`Machine`]: `device` on a GPU (feature `cuda`), and in the tests a processor
//! that runs the same kernel sources compiled for the host. So shapes, offsets, argument orders and kernels are tested
//! where there is no GPU; what is left to a GPU is the driver and cuDNN.
//!
//! Activations are NHWC in the element type of the program; statistics, coefficients, parameters and gradients are f32.
//!
//! | folder | what |
//! |---|---|
//! | [`program`] | commands as data: the backbone, batches, the optimiser's steps |
//! | `kernels` | the kernels' sources: `kernels.cu` and what it includes |
//! | `device` | driver, cuDNN, uploads (feature `cuda`) |
//! | [`check`] | every kernel beside its twin on the processor |
//! | [`error`] | what can go wrong on a GPU, in words |

pub mod check;
#[cfg(feature = "cuda")]
pub mod device;
pub mod error;
pub mod program;

pub use program::{
    Arg, BLOCK, Bases, Buffer, BufferPlace, Command, Constants, Convolve, Element, Geometry, Launch, Machine,
    Operation, Program, buffers_of,
};
