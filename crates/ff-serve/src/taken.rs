//! A socket whose other side has to take what is sent to it: who reads nothing holds a connection, and with it one of
//! the places that there are, for no longer than this.
//!
//! Ordinary answers are written in one piece, so their time is from where the socket first takes no more to where all is
//! handed over, however much goes meanwhile. Streams of events have no end: they go on as long as something of them is
//! taken within that time.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A socket whose other side has to take what is sent within some time.
pub struct Taken {
    stream: TcpStream,
    within: Duration,
    sends: Sends,
    /// Runs while something waits to be taken.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Taken {
    /// A socket, and within how long.
    pub fn new(stream: TcpStream, within: Duration) -> Self {
        Self { stream, within, sends: Sends::default(), timer: None }
    }

    /// What is to hear of answers before they are written.
    pub fn sends(&self) -> Sends {
        self.sends.clone()
    }

    /// What became of a write, or the end of patience.
    fn judge(&mut self, context: &mut Context, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match written {
            Poll::Pending => {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.within)));
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                // What the system holds for it is dropped too, not offered for minutes more.
                let _ = self.stream.set_zero_linger();
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "what was sent is not taken")))
            }
            Poll::Ready(written) => {
                if self.sends.0.load(Ordering::Relaxed) {
                    self.timer = None;
                }
                Poll::Ready(written)
            }
        }
    }
}

/// Whether a stream of events is sent.
#[derive(Clone, Default)]
pub struct Sends(Arc<AtomicBool>);

impl Sends {
    /// An answer with these headers comes next.
    pub fn begins(&self, headers: &HeaderMap) {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        self.0.store(kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")), Ordering::Relaxed);
    }
}

impl AsyncRead for Taken {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Taken {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[IoSlice],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Comes when all that there was has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        self.timer = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
