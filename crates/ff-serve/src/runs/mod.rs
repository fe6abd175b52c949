//! Runs to look at while they are trained: a list, charts of chosen ones together, and their records as they come.
//!
//! ```text
//! GET /runs                       the runs of a folder
//! GET /runs/compare?run=a&run=b   their charts; the address is the whole state
//! GET /runs/charts?run=a&run=b    the charts alone
//! GET /runs/events?run=a          server-sent events: a record each, its id the place after it in metrics.jsonl
//! ```
//!
//! A run is known by its folder's name below the folder of runs: only those that are found there are opened. Streams
//! end with the run, and with the server.

mod follow;
mod named;
mod page;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use ff_core::text::shortened;
use ff_report::{RunCurves, compared_curves};
use ff_train::records::Record;
use ff_train::run::RunDir;
use futures_util::stream::{Stream, unfold};
use maud::Markup;

use self::follow::{Follower, News};
use self::named::Named;
use crate::problem::{Cause, Problem};
use crate::{Result, Shutdown, aside, served_page};

/// How often a run's records are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Runs in one chart: more have no colours of their own.
const MOST_COMPARED: usize = 6;

struct Runs {
    folder: PathBuf,
    shutdown: Shutdown,
}

/// The routes of a folder of runs, all below `/runs`.
///
/// # Errors
/// The folder cannot be made: there may be no run yet.
pub fn runs_routes(folder: impl Into<PathBuf>, shutdown: &Shutdown) -> Result<Router> {
    let folder = folder.into();
    fs_err::create_dir_all(&folder)?;
    let runs = Runs { folder, shutdown: shutdown.clone() };
    Ok(Router::new()
        .route("/runs", get(list))
        .route("/runs/compare", get(compare))
        .route("/runs/charts", get(charts))
        .route("/runs/events", get(events))
        .route("/runs/style.css", get(served_page::style))
        .route("/runs/page.js", get(async || served_page::script(include_str!("page.js"))))
        .with_state(Arc::new(runs)))
}

/// The address of one run's charts, without the server's.
pub fn run_page(name: &str) -> String {
    page::compare_address([name])
}

impl Runs {
    /// The runs of these names.
    fn named(&self, names: &[String]) -> Result<Vec<Named>, Problem> {
        if names.is_empty() || names.len() > MOST_COMPARED {
            let detail = format!("run: expected 1 to {MOST_COMPARED} of them, found {}", names.len());
            return Err(Problem::bad_request(detail));
        }
        let mut all = Named::all(&self.folder).map_err(internal)?;
        let mut runs = Vec::new();
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                let found = shortened(name);
                return Err(Problem::bad_request(format!("run: expected each once, found {found:?} again")));
            }
            let Some(place) = all.iter().position(|named| named.name == *name) else {
                let detail = format!("expected a run of this server's, found {:?}", shortened(name));
                return Err(Problem::new(Cause::NotFound, detail));
            };
            runs.push(all.swap_remove(place));
        }
        Ok(runs)
    }
}

/// The charts of some runs together.
fn curves(runs: Vec<Named>) -> Result<Markup, Problem> {
    let read = |named: Named| RunCurves::read(named.name, &named.run);
    let curves: Result<Vec<_>, ff_report::Error> = runs.into_iter().map(read).collect();
    let curves = curves.map_err(|error| Problem::new(Cause::Unprocessable, error.to_string()))?;
    Ok(compared_curves(&curves))
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::new(Cause::Internal, error.to_string())
}

/// The values of a key that may stand several times.
fn values(query: Option<&str>, key: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(|(name, _)| name == key).map(|(_, value)| value.into_owned()).collect()
}

async fn list(State(runs): State<Arc<Runs>>) -> Result<Html<String>, Problem> {
    aside(move || Ok(page::list(&Named::all(&runs.folder).map_err(internal)?))).await
}

async fn compare(State(runs): State<Arc<Runs>>, RawQuery(query): RawQuery) -> Result<Html<String>, Problem> {
    aside(move || {
        let named = runs.named(&values(query.as_deref(), "run"))?;
        let followed = named.iter().map(page::Followed::look).collect::<Vec<_>>();
        Ok(page::compare(&followed, &curves(named)?))
    })
    .await
}

async fn charts(State(runs): State<Arc<Runs>>, RawQuery(query): RawQuery) -> Result<Html<String>, Problem> {
    aside(move || Ok(Html(curves(runs.named(&values(query.as_deref(), "run"))?)?.into_string()))).await
}

async fn events(
    State(runs): State<Arc<Runs>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let names = values(query.as_deref(), "run");
    let [name] = &names[..] else {
        return Err(Problem::bad_request(format!("run: expected one, found {}", names.len())));
    };
    // A browser that was cut off says in the header how far it had come.
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").to_owned());
    let from = last.or_else(|| values(query.as_deref(), "from").pop()).unwrap_or_else(|| "0".to_owned());
    let offset: u64 = from.trim().parse().map_err(|_| {
        let found = shortened(&from);
        Problem::bad_request(format!(
            "Last-Event-ID: expected a place in the records, in bytes, found {found:?}"
        ))
    })?;
    let (shutdown, names) = (runs.shutdown.clone(), names.clone());
    let mut found = aside(move || runs.named(&names)).await?;
    let Some(Named { run, .. }) = found.pop() else {
        return Err(Problem::new(Cause::NotFound, format!("expected a run, found {:?}", shortened(name))));
    };
    Ok(Sse::new(stream(run, offset, shutdown)).keep_alive(KeepAlive::default()))
}

/// Where a stream is.
struct Watch {
    run: RunDir,
    follower: Follower,
    shutdown: Shutdown,
    /// What is to be sent before the file is looked at again.
    ready: VecDeque<Event>,
    over: bool,
}

/// The records of a run after a place, until it ends.
fn stream(run: RunDir, offset: u64, shutdown: Shutdown) -> impl Stream<Item = Result<Event, Infallible>> {
    let follower = Follower::new(run.path(), offset);
    let watch = Watch { run, follower, shutdown, ready: VecDeque::new(), over: false };
    unfold(watch, async |mut watch| {
        loop {
            if let Some(event) = watch.ready.pop_front() {
                return Some((Ok(event), watch));
            }
            if watch.over || watch.shutdown.has_begun() {
                return None;
            }
            watch = watch.look().await?;
            if watch.ready.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    () = watch.shutdown.begun() => {}
                }
            }
        }
    })
}

impl Watch {
    /// Looks at the file, on a thread that may wait for it.
    async fn look(mut self) -> Option<Self> {
        let looked = tokio::task::spawn_blocking(move || {
            // Asked first: what is written between the questions is not the end.
            let trains = self.run.is_training();
            match self.follower.look() {
                Ok(News::Anew) => self.ready.push_back(Event::default().event("anew").id("0").data("{}")),
                Ok(News::Lines(lines)) if lines.is_empty() && !trains => {
                    self.ready.push_back(Event::default().event("end").data("{}"));
                    self.over = true;
                }
                Ok(News::Lines(lines)) => self.ready.extend(lines.iter().filter_map(event)),
                Err(error) => {
                    tracing::warn!("a run cannot be followed: {error}");
                    self.over = true;
                }
            }
            self
        });
        looked.await.ok()
    }
}

/// A record as it is sent; a line that is none is passed over.
fn event((offset, line): &(u64, String)) -> Option<Event> {
    let kind = match serde_json::from_str(line).ok()? {
        Record::Step(_) => "step",
        Record::Epoch(_) => "epoch",
    };
    Some(Event::default().event(kind).id(offset.to_string()).data(line))
}
