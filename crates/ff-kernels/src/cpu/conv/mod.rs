//! Convolutions, each folder with the same verbs: `forward`, `input_gradient`, `weight_gradient`.
//!
//! | module | what |
//! |---|---|
//! | [`winograd`] | 3x3, stride 1 |
//! | [`indirect`] | 1x1 and 3x3 of any stride, by pointers to pixels |
//! | [`separable`] | 1x1 with a depthwise 3x3 on top, forward only, for detectors |
//! | [`stem`] | the 7x7 stride-2 one that reads images |
//! | `micro`, `outer` | the products that forward passes and input gradients, and weight gradients, are made of |
//! | `taps` | filters in and out of vectors |

pub mod indirect;
mod micro;
mod outer;
pub mod separable;
pub mod stem;
mod taps;
pub mod winograd;
