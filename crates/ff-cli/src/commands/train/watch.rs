//! `train --serve`: the run on a page while it is trained.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use ff_serve::{Options, Shutdown, run_page, runs_routes, serve};

/// Whether and where to show a run while it is trained.
#[derive(Debug, Clone, clap::Args)]
pub struct WatchFlags {
    /// Show the run on a page while it is trained, with the other runs of its folder, at an address of this machine
    /// alone: `serve --runs DIR --token-file FILE` shows them to others. Port 0 is any free one [default, without
    /// an address: 127.0.0.1:8080].
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8080")]
    serve: Option<SocketAddr>,
}

/// Open pages are left after so long when the run has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A server beside a run, which ends with this value.
pub struct Watch {
    runs: PathBuf,
    address: SocketAddr,
    shutdown: Shutdown,
    server: Option<JoinHandle<ff_serve::Result<()>>>,
}

impl WatchFlags {
    /// Shows the runs of a folder, if that is asked for.
    pub fn start(&self, runs: &Path) -> Result<Option<Watch>> {
        let Some(address) = self.serve else { return Ok(None) };
        let shutdown = Shutdown::new();
        let routes = runs_routes(runs, &shutdown)?;
        let options = Options { address, shutdown_timeout: SHUTDOWN_TIMEOUT, ..Options::default() };
        let (told, hears) = mpsc::channel();
        let of_server = shutdown.clone();
        let server = std::thread::spawn(move || {
            serve(&options, routes, &of_server, |address| {
                // Whoever asked waits for it.
                let _ = told.send(address);
            })
        });
        match hears.recv() {
            Ok(address) => Ok(Some(Watch { runs: runs.to_owned(), address, shutdown, server: Some(server) })),
            Err(_) => match server.join() {
                Ok(ended) => Ok(ended.map(|()| None)?),
                Err(_) => anyhow::bail!("the server panicked before it could be reached"),
            },
        }
    }
}

impl Watch {
    /// Where a run is shown.
    pub fn url(&self, run: &Path) -> String {
        // One of several seeds lies a folder deeper.
        let name = run.strip_prefix(&self.runs).unwrap_or(run).to_string_lossy();
        format!("http://{}{}", self.address, run_page(&name))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(Ok(Err(error))) = self.server.take().map(JoinHandle::join) {
            tracing::warn!("the page ended before the run: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_shown_by_the_name_that_it_has_below_the_folder() {
        let watch = Watch {
            runs: PathBuf::from("runs"),
            address: "127.0.0.1:8080".parse().unwrap(),
            shutdown: Shutdown::new(),
            server: None,
        };
        for (run, name) in [
            ("runs/train-001", "train-001"),
            ("runs/seeds-001/seed-42", "seeds-001%2Fseed-42"),
            ("mine", "mine"),
        ] {
            let expected = format!("http://127.0.0.1:8080/runs/compare?run={name}");
            assert_eq!(watch.url(Path::new(run)), expected);
        }
    }
}
