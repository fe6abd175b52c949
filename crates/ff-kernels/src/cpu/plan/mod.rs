//! A backbone as a plan: `(B,3,H,W) images -> (B,512) embedding`, and its gradient.
//!
//! A plan's element is what activations and transformed filters are: `f32` or [`Bf16`](crate::Bf16).
//! Parameters and running statistics are flat vectors, whose pieces [`Layout`](crate::network::Layout) names.
//! Invariant: a [`Plan`] fixes buffers and kernels when it is made; a step allocates nothing, and its results
//! depend on nothing but its arguments, the thread count and the instruction set.
//! No heads, no loss, no optimiser here.

mod backbone;
mod backward;
mod block;
mod buffers;
mod forward;
mod infer;

pub use backbone::{Layer, Plan};
