//! A ResNet of basic blocks, described once: which convolutions and norms there are, in which order, under which names,
//! and where each of their tensors lies.
//!
//! He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; names and order are those of
//! torchvision's `named_parameters()` without `fc`. Whatever walks the network (both engines here; reference, ONNX,
//! summary, initial values and files of weights elsewhere) walks a [`Layout`], so nothing about it is written twice.
//!
//! Parameters are one flat vector; running statistics are another, per norm `running_mean`, then `running_var`.
//! It holds no values.
//!
//! ```
//! use ff_kernels::network::{Config, Layout};
//!
//! let layout = Layout::new(&Config::resnet18());
//! assert_eq!(layout.parameters_len(), 11_176_512);
//! assert_eq!(layout.blocks[2].downsample.as_ref().unwrap().conv.name, "layer2.0.downsample.0");
//! ```

mod config;
mod layout;

pub use config::{Config, Stage};
pub use layout::{BasicBlock, ConvNorm, ConvSlot, Layout, NormSlot, Parameter, Role};

/// Weight of a new batch in the running statistics.
pub const MOMENTUM: f64 = 0.1;
/// Added to a variance before its root.
pub const EPS: f64 = 1e-5;
/// Height and width below this leave nothing for a fourth stage.
pub const MIN_IMAGE_SIZE: usize = 32;

/// Rows or columns behind the stem's 3x3 stride-2 max-pool (padding 1), for `n` before it.
pub const fn max_pool_size(n: usize) -> usize {
    (n - 1) / 2 + 1
}

/// What a network is made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A forward pass on the batch's statistics, and the backward pass.
    Train,
    /// A forward pass on running statistics.
    Infer,
}
