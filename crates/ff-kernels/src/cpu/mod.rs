//! Kernels on the processor, and the plan that strings them together.
//!
//! Arrows between the modules run one way, from the last of this table to the first.
//!
//! | module | what |
//! |---|---|
//! | [`simd`] | instruction sets and run-time dispatch |
//! | [`base`] | a fork-join pool, buffers, checked shapes |
//! | [`fuse`] | what rides on a kernel's loads and stores |
//! | [`norm`] | BatchNorm: statistics, and the passes that cannot ride on a convolution |
//! | [`pool`] | max-pool and global average pool |
//! | [`conv`] | convolutions: forward and both gradients |
//! | [`optim`] | AdamW and SGD over flat slices |
//! | [`plan`] | a backbone as a plan: every buffer and kernel fixed beforehand |
//! | [`peak`] | the rate that kernels are measured against |

pub mod base;
pub mod conv;
pub mod fuse;
pub mod norm;
pub mod optim;
pub mod peak;
pub mod plan;
pub mod pool;
pub mod simd;
