//! Convolutions, each folder with the same verbs: `forward`, `input_gradient`, `weight_gradient`.
//!
//! | module | what |
//! |---|---|
//! | [`winograd`] | 3x3, stride 1 |
//! | [`indirect`] | 1x1 and 3x3 of any stride, by pointers to pixels |
//! | [`separable`] | 1x1 with a depthwise 3x3 on top, forward only, for detectors |
//! | [`stem`] | the 7x7 stride-2 one that reads images |
//! | `taps`, `outer` | filters in and out of vectors; the product that all weight gradients are made of |

pub mod indirect;
mod outer;
pub mod separable;
pub mod stem;
mod taps;
pub mod winograd;
