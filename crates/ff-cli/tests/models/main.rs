//! Models in and out, as a user meets them: weights from the hub and from files, predictions, exports. One binary, so
//! that it links once.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod hub;
mod interop;
mod predict;
mod support;
