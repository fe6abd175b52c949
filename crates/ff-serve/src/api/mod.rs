//! The API of a model: faces in photos, embeddings, prepared tensors, what the model is, figures for Prometheus.
//!
//! What comes in is bytes and options; no path, no address of anything. A photo is in memory while it is worked on and
//! nowhere else: not in a file, not in a log.

mod about;
mod faces;
mod query;
mod tasks;
mod tensors;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ff_core::{Encoders, PerTask};
use ff_data::ImageRules;
use ff_train::infer::{Judged, TaskPrediction, answers};
use tokio::time::timeout;

pub use about::{About, Groups, Off};
pub use tasks::served_tasks;

use crate::body::BodyLimits;
use crate::engine::{Done, Engine, Ticket, Times};
use crate::page;
use crate::problem::{Cause, Problem};
use crate::{Shutdown, engine};

/// A model that is served, and within which limits.
pub struct Served {
    /// What computes.
    pub engine: Engine,
    /// The labels of all of the model's tasks, in the order of its heads.
    pub encoders: Encoders,
    /// The tasks that are answered, all of which the model has.
    pub tasks: Vec<String>,
    /// What the model is.
    pub about: About,
    /// What images may be.
    pub rules: ImageRules,
    /// The share of a face that is added on every side.
    pub padding: f32,
    /// The longest body, in bytes.
    pub max_body: usize,
    /// How long a body may take to come, and then an answer.
    pub timeout: Duration,
}

/// What handlers share.
struct Api {
    served: Served,
    bodies: BodyLimits,
    shutdown: Shutdown,
}

/// The API as a file: an invariant of a test is that its paths are these routes.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The places of a served model, the page at `/` among them.
pub fn routes(served: Served, shutdown: &Shutdown) -> Router {
    let bodies = BodyLimits::new(served.max_body, served.timeout);
    let api = Arc::new(Api { served, bodies, shutdown: shutdown.clone() });
    let json = |text: &'static str| ([(header::CONTENT_TYPE, "application/json")], text);
    Router::new()
        .route("/v1/faces", post(faces::faces))
        .route("/v1/embed", post(faces::embed))
        .route("/v1/model", get(about::model))
        .route("/v2", get(tensors::server))
        .route("/v2/health/live", get(async || StatusCode::OK))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(tensors::model))
        .route("/v2/models/{model}/ready", get(tensors::ready))
        .route("/v2/models/{model}/infer", post(tensors::infer))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async move || json(OPENAPI)))
        .merge(page::routes())
        .route_layer(from_fn_with_state(Arc::clone(&api), count))
        .with_state(api)
}

impl Api {
    /// Whether new work is taken.
    fn admit(&self) -> Result<(), Problem> {
        match self.shutdown.has_begun() {
            true => Err(Problem::new(Cause::Stopping, "the server is being stopped")),
            false => Ok(()),
        }
    }

    /// The answers to tickets, within the time that there is for all of them.
    async fn answers<R>(
        &self,
        tickets: Vec<Ticket<R>>,
    ) -> Result<Vec<Result<Done<R>, engine::Failed>>, Problem> {
        let all = async {
            let mut answers = Vec::new();
            for ticket in tickets {
                answers.push(ticket.answer().await);
            }
            answers
        };
        timeout(self.served.timeout, all).await.map_err(|_| {
            let seconds = self.served.timeout.as_secs_f64();
            Problem::new(Cause::TimedOut, format!("expected an answer within {seconds} s, found none"))
        })
    }

    /// The tasks that a request gets answers to: a part of those that are served.
    ///
    /// # Errors
    /// One is not served.
    fn tasks<'a>(&'a self, asked: Option<&'a [String]>) -> Result<&'a [String], Problem> {
        let served = &self.served.tasks;
        let Some(asked) = asked else { return Ok(served) };
        match asked.iter().find(|task| !served.contains(task)) {
            None => Ok(asked),
            Some(task) => {
                let task = ff_core::text::shortened(task);
                let served = served.join(", ");
                let off = self.served.about.off.iter().find(|off| off.task == task);
                let why = off.map_or(String::new(), |off| format!(": {}", off.why));
                Err(Problem::bad_request(format!("tasks: expected some of {served}, found {task:?}{why}")))
            }
        }
    }

    /// The answers to some tasks, in the model's order.
    fn answers_of(
        &self,
        file: &str,
        judged: &Judged,
        tasks: &[String],
    ) -> Result<PerTask<TaskPrediction>, Problem> {
        let logits = judged.logits.iter().map(Vec::as_slice);
        let all = answers(&self.served.encoders, file, logits)
            .map_err(|error| Problem::new(Cause::Internal, error.to_string()))?;
        let names: Vec<_> = all.names().cloned().collect();
        let all = names.into_iter().zip(all.into_values());
        Ok(all.filter(|(name, _)| tasks.iter().any(|task| task == name.as_str())).collect())
    }
}

/// A response with the header `Server-Timing`: milliseconds of each stage.
fn timed(times: Times, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let Times { queue, detect, model } = times;
    let text =
        format!("queue;dur={:.2}, detect;dur={:.2}, model;dur={:.2}", ms(queue), ms(detect), ms(model));
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert("server-timing", value);
    }
    response
}

async fn ready(State(api): State<Arc<Api>>) -> Result<StatusCode, Problem> {
    api.admit().map(|()| StatusCode::OK)
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let engine = &api.served.engine;
    let text = engine.metrics().text(engine.in_house(), engine.options().queue);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn count(State(api): State<Arc<Api>>, place: MatchedPath, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.served.engine.metrics().answered(place.as_str(), response.status().as_u16());
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::OPENAPI;

    /// A router does not tell its routes; its source does.
    #[test]
    fn the_description_has_every_route_and_no_other() {
        let source = include_str!("mod.rs");
        let route = |line: &str| {
            let (path, rest) = line.trim().strip_prefix(".route(\"")?.split_once("\", ")?;
            let (method, _) = rest.split_once('(')?;
            Some((path.to_owned(), method.to_owned()))
        };
        let routes: BTreeSet<_> = source.lines().filter_map(route).collect();
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap().iter();
        let described: BTreeSet<_> = paths
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert!(routes.len() > 10, "{routes:?}");
        assert_eq!(routes, described);
    }

    /// References lead somewhere, and the options are those that are read.
    #[test]
    fn the_description_is_whole() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let schemas = described["components"]["schemas"].as_object().unwrap();
        for part in OPENAPI.split("\"$ref\": \"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let options = described["paths"]["/v1/faces"]["post"]["parameters"].as_array().unwrap();
        let options: BTreeSet<_> = options.iter().map(|option| option["name"].as_str().unwrap()).collect();
        assert_eq!(options, super::query::NAMES.into_iter().collect());
    }
}
