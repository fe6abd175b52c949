//! The 7x7 stride-2 pad-3 convolution of 3-channel images: forward and weight gradient (images need no gradient).
//!
//! Images `(B,3,H,W)` are packed once into padded rows whose even and odd columns lie apart, so that
//! neighbouring outputs read neighbouring floats for every tap and the micro-kernel needs no im2col:
//! `[image][channel][row][parity][column]`. The packed images serve forward and weight gradient. Inference has a
//! packing and a kernel of its own, with the max-pool in it.

mod forward;
mod geometry;
mod pooled;
mod weight_gradient;

pub use geometry::Stem;
pub use weight_gradient::StemGradient;
