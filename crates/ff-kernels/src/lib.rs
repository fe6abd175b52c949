//! Numeric kernels for a ResNet on plain `f32` slices: convolutions, BatchNorm, pooling and a whole-backbone plan.
//!
//! Activations are NHWC `(B, H, W, C)` with `C` a multiple of 16; only the stem reads NCHW `(B, 3, H, W)` images.
//! Convolution weights and their gradients are OIHW `(K, C, R, S)`, as torchvision stores them.
//!
//! Invariant: for a given thread count and instruction set, every result is bit-identical from run to run.
//! The work is split by thread index, never by who comes first.
//!
//! This is the one crate of the workspace with `unsafe`; nothing here knows tensors, files or candle.
//!
//! | module | what |
//! |---|---|
//! | [`network`] | a ResNet of basic blocks described once: what every engine and every file goes by |
//! | [`threads`] | a fork-join pool, one per engine |
//! | [`simd`] | instruction sets and run-time dispatch |
//! | [`winograd`] | 3x3 stride-1 convolution: forward and both gradients |
//! | [`gemm`] | strided 3x3 and 1x1 convolution, and the 7x7 stem |
//! | [`batchnorm`] | statistics, and the passes that cannot ride on a convolution |
//! | [`pool`] | max-pool and global average pool |
//! | [`resnet`] | the backbone as a plan: every buffer and kernel fixed beforehand |
//! | [`gpu`] | the same backbone as commands for a GPU, and their kernels' sources |
//! | `cuda` | the driver and cuDNN that carry them out (feature `cuda`) |
//! | [`optim`] | AdamW and SGD over flat slices |
//! | [`image`] | augmentation of decoded pixels in one pass, straight to normalised planes |
//! | [`claims`] | memory whose parts are handed out to threads, each once |
//! | [`pool_nchw`] | the reference path's max-pool |
//! | [`process`] | thread limits of the whole process |
//! | `sync` | what threads synchronise by, and models of it |

#![expect(
    clippy::needless_range_loop,
    reason = "loops over arrays that are registers: one index walks several of them, and the compiler unrolls it"
)]
#![expect(
    clippy::too_many_arguments,
    reason = "a convolution has six or more operands; structs for single calls would only hide them"
)]

pub mod batchnorm;
pub mod buffer;
pub mod claims;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod epilogue;
pub mod gemm;
pub mod gpu;
pub mod image;
pub mod network;
pub mod optim;
pub mod pool;
pub mod pool_nchw;
pub mod process;
pub mod resnet;
pub mod shape;
pub mod simd;
pub mod source;
pub mod sums;
mod sync;
pub mod threads;
pub mod winograd;

pub use buffer::Buffer;
pub use epilogue::{Epilogue, Gradient, Mask, Moments};
pub use shape::MapShape;
pub use simd::Level;
pub use source::Source;
pub use sums::ChannelSums;
pub use threads::ThreadPool;
