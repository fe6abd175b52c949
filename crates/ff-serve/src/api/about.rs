//! `GET /v1/model`: what the model is, what it answers, within which limits.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ff_report::GroupFigures;
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;

/// What a model is, in words for those who use it.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// What it is called here: letters, digits, dots, dashes and underscores.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What it was trained on, or that this is not known.
    pub trained_on: String,
    /// Whose it is and under which licence, where that is known.
    pub credit: Option<String>,
    /// The backbone.
    pub architecture: String,
    /// What it computes in.
    pub precision: String,
    /// Numbers of an embedding.
    pub embedding_len: usize,
    /// Tasks of the model that are not answered.
    pub off: Vec<Off>,
    /// How often it is right on whom.
    pub groups: Groups,
}

/// How often a model is right by group, or why nobody knows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// Figures from an evaluation of it.
    Figures(GroupFigures),
    /// Why there are none.
    Unknown(String),
}

/// A task that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Off {
    /// The task.
    pub task: String,
    /// Why not, and how to change that.
    pub why: String,
}

pub(super) async fn model(State(api): State<Arc<Api>>) -> Json<Value> {
    let served = &api.served;
    let tasks = served.tasks.iter().filter_map(|task| {
        let encoder = served.encoders.get(task)?;
        let labels = encoder.labels();
        let order: Vec<&String> = encoder.display_order().into_iter().map(|id| &labels[id]).collect();
        Some(json!({ "task": task, "classes": labels, "shown_in_order": order }))
    });
    let engine = served.engine.options();
    let mut about = serde_json::to_value(&served.about).expect("texts and numbers are JSON");
    about["version"] = env!("CARGO_PKG_VERSION").into();
    about["image_size"] = engine.image_size.into();
    about["tasks"] = tasks.collect();
    about["limits"] = json!({
        "max_body_bytes": served.max_body,
        "max_pixels": served.rules.max_pixels,
        "max_images": engine.queue,
        "max_batch": engine.max_batch,
        "timeout_s": served.timeout.as_secs_f64(),
    });
    Json(about)
}
