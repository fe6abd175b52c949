//! Pages for people against a real server: audits to go through, runs to watch.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stderr, reason = "a test says what it skips")]

mod audit;
#[cfg(unix)]
mod browser;
mod runs;
mod server;
