//! 3x3 stride-1 pad-1 convolution by Winograd: F(4x4, 3x3) forward and input gradient, F(3x3, 4x4) weight gradient.
//!
//! Shapes: input `(B,H,W,C)`, output `(B,H,W,K)`, weights `(K,C,3,3)`; any `B`, `H`, `W` >= 1, `C` and `K`
//! multiples of 16. Tiles at the edge are narrower: F(2,3) and F(3,3), at some of F(4,3)'s points. The blocking is a
//! fixed rule of the shape and the thread count ([`Conv3x3::describe`] tells it), so results are reproducible.
//! Error against exact arithmetic: 1.5e-6 to 3e-6 of the largest output (direct convolution: 1e-6 to 2e-6). In
//! bfloat16, whose transforms are f32 too, about 1e-2 of the output's root mean square (direct: 3e-3).
//!
//! Not here: other tile sizes throughout (F(2x2) lost to padded F(4x4) on every map of ResNet-34, 7x7 included).

mod blocking;
mod filter;
mod forward;
mod geometry;
mod input_gradient;
mod product;
mod tiles;
mod tiling;
mod transforms;
mod weight_gradient;

pub use forward::Filters;
pub use geometry::Conv3x3;
