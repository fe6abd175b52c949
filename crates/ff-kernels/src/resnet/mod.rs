//! A ResNet-18/34-type backbone as a plan: `(B,3,H,W) images -> (B,512) embedding`, and its gradient.
//!
//! Parameters are one flat vector in torchvision's `named_parameters()` order without `fc`; running statistics
//! are one flat vector, per BatchNorm `running_mean` then `running_var` ([`Layout`] names every piece).
//! Invariant: a [`Plan`] fixes buffers and kernels when it is made; a step allocates nothing, and its results
//! depend on nothing but its arguments, the thread count and the instruction set.
//! No heads, no loss, no optimiser here.

mod backward;
mod block;
mod buffers;
mod eval;
mod layout;
mod plan;
mod train;

pub use layout::{BnSlot, Config, ConvSlot, Layout, Parameter, Stage};
pub use plan::{Layer, Mode, Plan};

/// Weight of a new batch in the running statistics.
pub const MOMENTUM: f32 = 0.1;
/// Added to the variance before the square root.
pub const EPS: f32 = 1e-5;
