//! Models over HTTP: an API, a page for people, views that change while one looks.
//!
//! ```text
//! socket -> accept: timers, cap -> guard: host, origin, token, headers -> the routes of what is served
//! ```
//!
//! Each thing that can be served is an axum `Router` of its own; [`serve`] puts the same door before all of them. One
//! thread does all waiting; whatever computes has threads of its own. No handler blocks, and none takes a path or an
//! address of anything from a client.

mod accept;
mod audit;
mod error;
mod guard;
mod options;
mod problem;
mod served_page;
mod shutdown;

pub use accept::serve;
pub use audit::{AuditFiles, audit_routes};
pub use error::{Error, Result};
pub use options::{Options, Token};
pub use problem::{Cause, Problem};
pub use shutdown::Shutdown;
