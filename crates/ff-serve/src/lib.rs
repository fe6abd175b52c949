//! Models over HTTP: an API, a page for people, views that change while one looks.
//!
//! ```text
//! socket -> accept: timers, cap -> guard: host, origin, token, headers -> the routes of what is served
//!                                                                          api: body, query -> engine -> rows
//! ```
//!
//! Each thing that can be served is an axum `Router` of its own; [`serve`] puts the same door before all of them. One
//! thread does all waiting; whatever computes has threads of its own. No handler blocks, and none takes a path or an
//! address of anything from a client.

mod accept;
mod api;
mod aside;
mod audit;
mod body;
mod engine;
mod error;
mod guard;
mod metrics;
mod multipart;
mod options;
mod page;
mod problem;
mod runs;
mod served_page;
mod shutdown;
mod taken;

pub use accept::serve;
pub use api::{About, Groups, OPENAPI, Off, Served, routes, served_tasks};
use aside::aside;
pub use audit::{AuditFiles, audit_routes};
pub use axum::Router;
pub use engine::{Done, Engine, EngineOptions, Failed, Network, Planes, Ticket, Times};
pub use error::{Error, Result};
pub use metrics::{Metrics, Stage};
pub use options::{Options, Token};
pub use problem::{Cause, Problem};
pub use runs::{run_page, runs_routes};
pub use served_page::leads_to;
pub use shutdown::Shutdown;
