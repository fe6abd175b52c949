//! The command line as a user meets it: the binary `fairface` on a handful of the sample's faces.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stderr, reason = "a test says what it skips")]

#[cfg(unix)]
mod arguments;
mod card;
mod chromium;
mod commands;
#[cfg(unix)]
mod compare_peers;
mod decisions;
mod evaluate;
mod find_chromium;
#[cfg(unix)]
mod find_python;
mod gates;
mod help;
#[cfg(target_os = "linux")]
mod outputs;
mod predictions;
mod report;
#[cfg(unix)]
mod runs;
mod workplace;
