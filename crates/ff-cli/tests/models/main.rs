//! Models in and out, as a user meets them: weights from the hub and from files, predictions, exports. One binary, so
//! that it links once.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a test says what it skips and measures")]

#[cfg(all(unix, feature = "serve"))]
mod browser;
#[cfg(feature = "serve")]
#[path = "../../../ff-serve/tests/server/client.rs"]
mod client;
mod data;
#[cfg(all(unix, feature = "serve"))]
#[path = "../it/find_chromium.rs"]
mod find_chromium;
#[path = "../it/find_python.rs"]
mod find_python;
mod hub;
mod interop;
mod names;
mod own_tasks;
#[cfg(all(unix, feature = "serve"))]
mod page;
#[cfg(all(unix, feature = "serve"))]
mod pages;
mod photos;
mod predict;
#[cfg(all(unix, feature = "serve"))]
mod serve;
mod support;
#[cfg(all(unix, feature = "serve"))]
mod tracks;
