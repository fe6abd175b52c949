//! The signal to stop, which whoever waits can wait for.

use std::sync::Arc;

use tokio::sync::watch;

/// The signal to stop, shared by all who must hear it. Once given it stays.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// One that is not given yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Gives it; from any thread. Whether it had been given before.
    pub fn begin(&self) -> bool {
        self.0.send_replace(true)
    }

    /// Whether it has been given: readiness ends with it, and work is not begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when it is given. An event stream must end with it, or the server waits for the stream.
    pub async fn begun(&self) {
        // There is a sender as long as `self` is.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}
