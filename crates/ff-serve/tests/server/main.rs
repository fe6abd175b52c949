//! The server over real sockets, with a network that does what a test wants.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod client;
mod hostile;
mod place;
mod work;
