//! Pages for people against a real server: audits to go through, runs to watch.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod audit;
mod runs;
mod server;
