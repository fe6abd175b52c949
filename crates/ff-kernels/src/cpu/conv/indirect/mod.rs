//! Convolutions that Winograd does not serve, as implicit matrix products: strided 3x3, and 1x1.
//!
//! Shapes: input `(B,H,W,C)`, output `(B,OH,OW,K)`, weights `(K,C,R,R)` with `R` 1 or 3, padding `R/2`.
//! The pixels that some dozens of outputs read are packed into the cache, tap by tap, and multiplied there: a copy
//! costs 1 to 2 % of its products, and no im2col matrix of the whole map is made.

mod forward;
mod geometry;
mod input_gradient;
mod packing;
mod product;
mod weight_gradient;

pub use geometry::IndirectConv;
pub use input_gradient::Branch;
