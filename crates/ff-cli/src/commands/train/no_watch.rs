//! In place of `watch.rs` in a build without the feature `serve`: there is no flag, and nothing to show.

use std::convert::Infallible;
use std::path::Path;

use anyhow::Result;

/// No flag.
#[derive(Debug, Clone, clap::Args)]
pub struct WatchFlags {}

/// There is none.
pub struct Watch(Infallible);

impl WatchFlags {
    pub fn start(&self, _: &Path) -> Result<Option<Watch>> {
        Ok(None)
    }
}

impl Watch {
    pub fn url(&self, _: &Path) -> String {
        match self.0 {}
    }
}
