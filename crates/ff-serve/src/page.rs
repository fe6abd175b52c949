//! The page at `/`: files of this crate, which load nothing from elsewhere.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const TRACKS: &str = include_str!("page/tracks.js");
const SCRIPT: &str = include_str!("page/page.js");

/// The page and its files.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", HTML)))
        .route("/page.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/tracks.js", get(async || file("text/javascript; charset=utf-8", TRACKS)))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}
