//! The command line as a user meets it: the binary `fairface` on a handful of the sample's faces.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod commands;
mod evaluate;
#[cfg(unix)]
mod resume;
mod workplace;
