//! What `serve` shows beside a model: runs, and findings to go through.

use std::path::PathBuf;

use anyhow::Result;
use ff_serve::{AuditFiles, Router, Shutdown, audit_routes, leads_to, runs_routes};

/// Views for people.
#[derive(Debug, Clone, clap::Args)]
pub struct ViewFlags {
    /// Show the runs of a folder at /runs, and follow those that are being trained. Alone it needs no model.
    #[arg(long, value_name = "DIR", help_heading = "Views")]
    runs: Option<PathBuf>,
    /// Show at /audit what `audit --json` or `evaluate --json` found, to decide about face by face; may be given
    /// several times, also a run's evaluation/NAME.json. Alone it needs no model.
    #[arg(long, value_name = "FILE", requires = "images", help_heading = "Views")]
    audit: Vec<PathBuf>,
    /// Folder that the files' names in --audit are relative to.
    #[arg(long, value_name = "DIR", requires = "audit", help_heading = "Views")]
    images: Option<PathBuf>,
    /// The CSV that decisions are written to, for `split --decisions` and `train --decisions` [default: decisions.csv].
    #[arg(long, value_name = "FILE", requires = "audit", help_heading = "Views")]
    decisions: Option<PathBuf>,
}

impl ViewFlags {
    /// The places that are asked for.
    pub fn places(&self) -> Vec<&'static str> {
        let places = [("/audit", self.images.is_some()), ("/runs", self.runs.is_some())];
        places.into_iter().filter(|(_, asked)| *asked).map(|(place, _)| place).collect()
    }

    /// Their routes.
    pub fn routes(&self, shutdown: &Shutdown) -> Result<Router> {
        let mut routes = Router::new();
        if let Some(runs) = &self.runs {
            routes = routes.merge(runs_routes(runs, shutdown)?);
        }
        if let Some(images) = &self.images {
            let decisions = self.decisions.clone().unwrap_or_else(|| "decisions.csv".into());
            let files = AuditFiles { findings: self.audit.clone(), images: images.clone(), decisions };
            routes = routes.merge(audit_routes(&files)?);
        }
        Ok(routes)
    }

    /// The same where no model has the page at /.
    pub fn routes_alone(&self, shutdown: &Shutdown) -> Result<Router> {
        let routes = self.routes(shutdown)?;
        Ok(self.places().first().map_or_else(Router::new, |place| leads_to(place)).merge(routes))
    }
}
