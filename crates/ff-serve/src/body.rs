//! Bodies of requests: whole, within limits of length, time and memory for all of them together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::problem::{Cause, Problem};

/// What bodies may be.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    /// The longest, in bytes.
    pub max_body: usize,
    /// How long one may take to come.
    pub timeout: Duration,
    /// Bytes of all bodies together.
    memory: Arc<Semaphore>,
}

/// A body, and its share of the memory for bodies.
pub struct Held {
    /// All of it.
    pub bytes: Bytes,
    /// The share, which is free again when it is dropped.
    pub memory: Option<OwnedSemaphorePermit>,
}

/// Memory for bodies together, unless one alone may be longer.
const MEMORY: usize = 256 << 20;
/// How long a body that nobody wants is read: clients that have not finished sending see no answer otherwise.
const DISCARDED_FOR: Duration = Duration::from_secs(2);
/// How much of it, in limits of a body.
const DISCARDED: usize = 4;

impl BodyLimits {
    /// Bodies of at most so many bytes, which come within so long.
    pub fn new(max_body: usize, timeout: Duration) -> Self {
        let memory = MEMORY.max(max_body.saturating_mul(2)).min(Semaphore::MAX_PERMITS);
        Self { max_body, timeout, memory: Arc::new(Semaphore::new(memory)) }
    }

    /// The whole body.
    ///
    /// # Errors
    /// It is longer or slower than allowed, packed, breaks off, or there is no memory for it now.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, Problem> {
        let read = self.read_some(headers, &mut body).await;
        let waits_for_us = headers.contains_key(header::EXPECT);
        if read.as_ref().is_err_and(|problem| problem.cause != Cause::SlowBody) && !waits_for_us {
            discard(body, self.max_body.saturating_mul(DISCARDED)).await;
        }
        read
    }

    async fn read_some(&self, headers: &HeaderMap, body: &mut Body) -> Result<Held, Problem> {
        let max = self.max_body;
        let too_large = |found: String| {
            Problem::new(Cause::TooLarge, format!("expected a body of at most {max} bytes, found {found}"))
        };
        if let Some(packed) = headers.get(header::CONTENT_ENCODING).filter(|name| *name != "identity") {
            let detail = format!("expected a body that is not packed, found Content-Encoding {packed:?}");
            return Err(Problem::new(Cause::UnsupportedType, detail));
        }
        let announced = body.size_hint().exact();
        if let Some(bytes) = announced.filter(|&bytes| bytes > max as u64) {
            return Err(too_large(bytes.to_string()));
        }
        let mut bytes = Vec::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        let deadline = Instant::now() + self.timeout;
        loop {
            let frame = timeout_at(deadline, next_data(body)).await.map_err(|_| {
                let found = bytes.len();
                let detail = format!(
                    "expected the body within {} s, found {found} bytes of it",
                    self.timeout.as_secs_f64()
                );
                Problem::new(Cause::SlowBody, detail)
            })?;
            let Some(data) = frame? else { return Ok(Held { bytes: bytes.into(), memory }) };
            if bytes.len() + data.len() > max {
                return Err(too_large("more".to_owned()));
            }
            // Only what has come takes memory, so those who announce much and send little keep nobody out.
            let full =
                |_| Problem::new(Cause::Overloaded, "the bodies of other requests fill the memory for them");
            let n = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let share = Arc::clone(&self.memory).try_acquire_many_owned(n).map_err(full)?;
            match &mut memory {
                Some(memory) => memory.merge(share),
                None => memory = Some(share),
            }
            bytes.extend_from_slice(&data);
        }
    }
}

/// The next bytes; `None` at the end.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            // Trailers say nothing here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => return Err(Problem::bad_request(format!("the body breaks off: {error}"))),
        }
    }
}

/// Reads on for a while and forgets what comes.
async fn discard(mut body: Body, most: usize) {
    let deadline = Instant::now() + DISCARDED_FOR;
    let mut so_far = 0;
    while so_far <= most {
        match timeout_at(deadline, next_data(&mut body)).await {
            Ok(Ok(Some(data))) => so_far += data.len(),
            _ => return,
        }
    }
}
