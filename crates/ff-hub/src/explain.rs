//! What a server did instead of sending a file, and what to do about it: in the same words whoever was asked.

use std::fmt::Display;
use std::time::Duration;

/// Whom a request went to.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// What people call it.
    pub name: &'a str,
    /// The environment variable that names a mirror of it.
    pub mirror: &'a str,
}

impl Server<'_> {
    /// A request brought no answer, or none with a file in it.
    pub fn failed(&self, error: &ureq::Error) -> String {
        let Self { name, mirror } = self;
        match error {
            ureq::Error::StatusCode(status) => format!("{name} answered {status}; try again later"),
            error => format!("{name} cannot be reached ({error}); {mirror} can name a mirror"),
        }
    }

    /// Nothing came for so long.
    pub fn is_silent(&self, timeout: Duration) -> String {
        let Self { name, mirror } = self;
        format!(
            "nothing came from {name} for {} s; run it again, it goes on where it stopped; {mirror} can name a mirror",
            timeout.as_secs()
        )
    }
}

/// The connection broke more often than it is taken up again.
pub fn breaks_off(last: &dyn Display) -> String {
    format!(
        "the connection broke again and again, last with: {last}; run it again, it goes on where it stopped"
    )
}

/// A file is longer than it may be.
pub fn sends_too_much(limit: u64, found: u64) -> String {
    format!("expected a file of at most {limit} bytes, found one of {found} or more")
}
