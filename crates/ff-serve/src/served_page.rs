//! What pages that the server makes have in common: style and script as files of its own, so that the policy of every
//! answer holds for them.

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};

/// Where the style sheet stands.
pub const STYLE: &str = include_str!("served_page.css");

/// A page below a folder of the server, whose style sheet and script stand in that folder.
pub fn document(title: &str, folder: &str, body: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href={ (folder) "/style.css" };
                script src={ (folder) "/page.js" } defer {}
            }
            body { main { (body) } }
        }
    };
    Html(page.into_string())
}

/// A server whose `/` leads to another of its places.
pub fn leads_to(place: &'static str) -> Router {
    Router::new().route("/", get(async move || Redirect::temporary(place)))
}

/// The style sheet of pages and charts.
pub async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], [ff_report::STYLE, STYLE].concat())
}

/// A script.
pub fn script(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text)
}
