//! Work that waits for files.

use crate::problem::{Cause, Problem};

/// Work with files, on a thread that may wait for them.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let lost = |_| Problem::new(Cause::Internal, "the work at this request has ended without an answer");
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}
