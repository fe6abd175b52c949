//! Convolutions that Winograd does not serve, as implicit matrix products: strided 3x3, and 1x1.
//!
//! Shapes: input `(B,H,W,C)`, output `(B,OH,OW,K)`, weights `(K,C,R,R)` with `R` 1 or 3, padding `R/2`.
//! No im2col matrix is made: the micro-kernel reads pixels through pointers (the indirect convolution
//! algorithm, Dukhan 2019), where a pixel outside the map points at a row of zeros.

mod forward;
mod geometry;
mod input_gradient;
mod packing;
mod product;
mod weight_gradient;

pub use geometry::IndirectConv;
pub use input_gradient::Branch;
