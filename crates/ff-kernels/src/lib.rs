//! Numeric kernels for a ResNet on plain slices: convolutions, BatchNorm, pooling and a whole-backbone plan.
//!
//! Activations are NHWC `(B, H, W, C)` of `f32` or [`Bf16`] with `C` a multiple of 16; only the stem reads images as
//! NCHW `(B, 3, H, W)`. Convolution weights and their gradients are OIHW `(K, C, R, S)` of `f32`, as torchvision stores
//! them.
//!
//! Invariant: for a given thread count and instruction set, every result is bit-identical from run to run.
//! The work is split by thread index, never by who comes first.
//!
//! This is the one crate of the workspace with `unsafe`; nothing here knows tensors, files or candle.
//!
//! | module | what |
//! |---|---|
//! | [`network`] | a ResNet of basic blocks described once: what every engine and every file goes by |
//! | [`cpu`] | kernels on the processor, and the backbone as a plan of them |
//! | [`image`] | augmentation of decoded pixels in one pass, straight to normalised planes |
//! | [`gpu`] | the backbone as commands for a GPU, their kernels' sources, and the driver (feature `cuda`) |
//! | [`host`] | memory handed out to threads in parts, thread limits of the process |
//!
//! Arrows run one way: `gpu -> {cpu, image, network}`, `cpu -> network`, `image -> cpu`, `host -> cpu::base`.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over arrays that are registers: one index walks several of them, and the compiler unrolls it"
)]
#![expect(
    clippy::too_many_arguments,
    reason = "a convolution has six or more operands; structs for single calls would only hide them"
)]

pub mod cpu;
pub mod gpu;
pub mod host;
pub mod image;
pub mod network;

pub use cpu::base::buffer::Buffer;
pub use cpu::base::shape::MapShape;
pub use cpu::base::threads::ThreadPool;
pub use cpu::fuse::load::FusedLoad;
pub use cpu::fuse::store::{Epilogue, Gradient, Mask, Moments};
pub use cpu::fuse::sums::ChannelSums;
pub use cpu::simd::{Bf16, Element, Level};
