//! From sockets to routes: connections within a cap, each with timers for heads and for answers that are not taken
//! (`taken`), until the signal to stop. Bodies have timers of their own (`body`).
//!
//! After the signal readiness is over and new work is refused, by the routes; what has begun is finished, and
//! connections end with their answers. What is not finished in time is left.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::guard::{Guard, guard};
use crate::problem::{Cause, Problem};
use crate::taken::Taken;
use crate::{Error, Options, Result, Shutdown};

/// How long is waited when the system has no descriptor left for a connection.
const WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Serves `routes` until `shutdown` is given; `listening` hears the address when it can be reached.
///
/// The thread that calls it does all waiting. Routes that keep a response open must end it with `shutdown`.
///
/// # Errors
/// The address cannot be had, or can be reached from elsewhere without a token.
pub fn serve(
    options: &Options,
    routes: Router,
    shutdown: &Shutdown,
    listening: impl FnOnce(SocketAddr),
) -> Result<()> {
    let address = options.address;
    options.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let refused = |error| Error::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr()?;
        let routes = behind_the_door(routes, Guard::new(options.token.clone(), &options.hosts, address));
        listening(address);
        accept(options, &listener, &routes, shutdown).await;
        Ok(())
    });
    // Not dropped: that would wait for a thread that waits for a file.
    runtime.shutdown_background();
    served
}

/// Routes as clients meet them.
fn behind_the_door(routes: Router, door: Guard) -> Router {
    let not_found = |uri: axum::http::Uri| async move {
        Problem::new(Cause::NotFound, format!("expected a place of this server's, found {}", uri.path()))
    };
    let other_method = |method: axum::http::Method| async move {
        Problem::new(Cause::MethodNotAllowed, format!("{method} is not what this place is for"))
    };
    let routes = routes.fallback(not_found).method_not_allowed_fallback(other_method);
    routes.layer(from_fn_with_state(Arc::new(door), guard))
}

async fn accept(options: &Options, listener: &TcpListener, routes: &Router, shutdown: &Shutdown) {
    let room = Arc::new(Semaphore::new(options.max_connections));
    // Those that come after the signal, probes above all, hold nothing up.
    let (mut connections, mut late) = (JoinSet::new(), JoinSet::new());
    let mut asked_to_stop = pin!(shutdown.begun());
    let (mut stopping, mut deadline) = (false, pin!(sleep(Duration::ZERO)));
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            (stream, permit) = accepted => match stream {
                Ok((stream, _)) => {
                    let is_late = shutdown.has_begun();
                    let stop = (!is_late).then(|| shutdown.clone());
                    // Answers are written in one piece; nothing is gained by waiting for more.
                    let _ = stream.set_nodelay(true);
                    let stream = Taken::new(stream, options.write_timeout);
                    let served = connection(stream, options.header_timeout, routes.clone(), stop);
                    let among = if is_late { &mut late } else { &mut connections };
                    among.spawn(async move {
                        let _permit = permit;
                        served.await;
                    });
                }
                // The client has gone already, or there are too many open files: no reason to stop.
                Err(error) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    sleep(WITHOUT_DESCRIPTORS).await;
                }
            },
            Some(_) = connections.join_next() => {}
            Some(_) = late.join_next() => {}
            () = &mut asked_to_stop, if !stopping => {
                stopping = true;
                deadline.as_mut().reset(Instant::now() + options.shutdown_timeout);
            }
            () = &mut deadline, if stopping => {
                tracing::warn!("{} connections were not finished in time", connections.len());
                return;
            }
        }
        // Until then probes are answered.
        if stopping && connections.is_empty() {
            return;
        }
    }
}

/// Serves one connection to its end, or from the signal on to that of the request that it is at; without a signal for
/// one request.
async fn connection(stream: Taken, header_timeout: Duration, routes: Router, shutdown: Option<Shutdown>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_HEAD);
    builder.keep_alive(shutdown.is_some());
    let (routes, sends) = (TowerToHyperService::new(routes), stream.sends());
    let routes = service_fn(move |request| {
        let (answer, sends) = (routes.call(request), sends.clone());
        async move { answer.await.inspect(|answer| sends.begins(answer.headers())) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), routes));
    // What goes wrong with a connection is its client's business: it left, or spoke no HTTP.
    let Some(shutdown) = shutdown else {
        let _ = connection.await;
        return;
    };
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The longest head of a request, and what is read of a body at once.
const MAX_HEAD: usize = 64 << 10;
