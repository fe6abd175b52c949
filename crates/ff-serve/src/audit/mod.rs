//! The audit browser: what audits and evaluations found, face by face, and what somebody decides about it.
//!
//! ```text
//! GET  /audit?kind=..&task=..   a page of cases; its address is its whole state
//! GET  /audit/confusions        confusions, whose cells lead to their faces
//! GET  /audit/image?file=..     a small copy of an image that a case names, and of no other file
//! POST /audit/decide            a form: keep, drop, relabel, undo --> the CSV of decisions
//! ```
//!
//! Decisions are read anew and written whole at every word of a user's, one at a time, so that what an editor changed
//! in the file meanwhile stays. The pages work without their script.

mod cases;
mod filter;
mod page;

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, FromRequest, Query as Params, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ff_core::Schema;
use ff_core::text::{either, shortened};
use ff_data::{Decision, Decisions};
use serde::Deserialize;
use tokio::sync::Semaphore;

use self::cases::{Case, Cases};
use self::filter::Query;
use self::page::Shown;
use crate::body::BodyLimits;
use crate::problem::{Cause, Problem};
use crate::{Error, Result, aside, served_page};

/// The longer side of a picture on a page, and of one that is looked at alone, pixels.
const SMALL: usize = 224;
const LARGE: usize = 1024;
/// The longest form, in bytes, and how long one may take to come.
const MAX_FORM: usize = 64 << 10;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// What the audit browser shows.
#[derive(Debug, Clone)]
pub struct AuditFiles {
    /// Files of `audit --json` and `evaluate --json`, or evaluations of runs.
    pub findings: Vec<PathBuf>,
    /// The folder that the files' names are relative to.
    pub images: PathBuf,
    /// The CSV of decisions, which is made when there is one to write.
    pub decisions: PathBuf,
}

struct Browser {
    cases: Cases,
    schema: Schema,
    images: PathBuf,
    /// Files that cases name: no others are read.
    files: HashSet<String>,
    decisions: PathBuf,
    /// Held while the decisions are changed.
    writing: Mutex<()>,
    forms: BodyLimits,
    /// Pictures that are decoded at once.
    decoding: Semaphore,
}

/// The audit browser's routes, all below `/audit`.
///
/// # Errors
/// A file that cannot be used, no folder of images, no tasks in any of the files, or decisions that cannot be read.
pub fn audit_routes(files: &AuditFiles) -> Result<Router> {
    if !files.images.is_dir() {
        return Err(ff_data::Error::NoImagesRoot(files.images.clone()).into());
    }
    let cases = Cases::read(&files.findings)?;
    let schema = cases.schema().map_err(ff_data::Error::from)?;
    let browser = Browser {
        files: cases.list.iter().flat_map(|case| &case.faces).map(|face| face.file.clone()).collect(),
        schema,
        images: files.images.clone(),
        decisions: files.decisions.clone(),
        writing: Mutex::new(()),
        forms: BodyLimits::new(MAX_FORM, FORM_TIMEOUT),
        decoding: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
        cases,
    };
    browser.read_decisions()?;
    Ok(Router::new()
        .route("/audit", get(show))
        .route("/audit/confusions", get(confusions))
        .route("/audit/image", get(image))
        .route("/audit/decide", post(decide))
        .route("/audit/style.css", get(served_page::style))
        .route("/audit/page.js", get(async || served_page::script(include_str!("page.js"))))
        .with_state(Arc::new(browser)))
}

impl Browser {
    fn read_decisions(&self) -> Result<Decisions> {
        match fs_err::metadata(&self.decisions) {
            Ok(_) => Ok(Decisions::read(&self.decisions, &self.schema)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Decisions::none(&self.decisions, &self.schema))
            }
            // What cannot be looked at is not to be replaced.
            Err(error) => Err(error.into()),
        }
    }

    fn show(&self, query: &Query) -> Result<Html<String>, Problem> {
        query.check(&self.cases)?;
        let (decisions, broken) = match self.read_decisions() {
            Ok(decisions) => (decisions, None),
            Err(error) => (Decisions::none(&self.decisions, &self.schema), Some(error.to_string())),
        };
        let mut of_file: HashMap<&Path, Vec<&Decision>> = HashMap::new();
        for row in decisions.rows() {
            of_file.entry(Path::new(&row.file)).or_default().push(&row.decision);
        }
        let decision = |file: &str, case: &Case| {
            let all = of_file.get(Path::new(file))?.iter().copied();
            let mut fits = all.filter(|d| **d == Decision::Drop || d.task() == case.task.as_ref());
            fits.next()
        };
        let list = query.of(&self.cases, decision);
        let counted = (self.decisions.display().to_string(), decisions.rows().len());
        let shown = Shown { cases: &self.cases, query, list, broken, decisions: counted };
        Ok(page::page(&shown, decision))
    }

    /// A picture of a file that a case names.
    fn image(&self, file: &str, size: usize) -> Result<Vec<u8>, Problem> {
        let not_found = |why: &str| Problem::new(Cause::NotFound, format!("{:?}: {why}", shortened(file)));
        if !self.files.contains(file) {
            return Err(not_found("expected a file of a case, found none of this name"));
        }
        // A file of findings may come from elsewhere too.
        if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(not_found("expected a file inside the images folder"));
        }
        ff_report::thumbnail_jpeg(&self.images.join(file), size)
            .ok_or_else(|| not_found("expected an image, found none that can be read"))
    }

    /// Puts a decision into the file: what is decided then.
    fn decide(&self, words: &Words) -> Result<Option<Decision>, Problem> {
        let file = &words.file;
        if !self.files.contains(file) {
            let found = shortened(file);
            return Err(Problem::bad_request(format!("file: expected one of a case, found {found:?}")));
        }
        let in_task = |error: ff_core::schema::Error| Problem::bad_request(format!("task: {error}"));
        let task = Some(&words.task).filter(|task| !task.is_empty());
        let task = task.map(|task| self.schema.task(task).map(|task| task.name.clone())).transpose();
        let task = task.map_err(in_task)?;
        let decision = match (words.decision.as_str(), task.clone()) {
            ("keep", task) => Some(Decision::Keep(task)),
            ("drop", _) => Some(Decision::Drop),
            ("relabel", Some(task)) => {
                let labels = self.cases.labels_of(task.as_str()).unwrap_or_default();
                if !labels.contains(&words.label) {
                    let (known, found) = (either(labels), shortened(&words.label));
                    return Err(Problem::bad_request(format!("label: expected {known}, found {found:?}")));
                }
                Some(Decision::Relabel { task, label: words.label.clone() })
            }
            ("relabel", None) => {
                return Err(Problem::bad_request("task: expected one with relabel, found none"));
            }
            ("undo", _) => None,
            (other, _) => {
                let found = shortened(other);
                let detail = format!("decision: expected keep, drop, relabel or undo, found {found:?}");
                return Err(Problem::bad_request(detail));
            }
        };
        let unusable = |error: Error| Problem::new(Cause::Unprocessable, error.to_string());
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut decisions = self.read_decisions().map_err(unusable)?;
        match &decision {
            Some(decision) => decisions.set(file, decision.clone()),
            None => decisions.take_back(file, task.as_ref()),
        }
        decisions.write().map_err(|error| Problem::new(Cause::Internal, error.to_string()))?;
        Ok(decision)
    }
}

async fn show(
    State(browser): State<Arc<Browser>>,
    query: Result<Params<Query>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Params(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    aside(move || browser.show(&query)).await
}

async fn confusions(State(browser): State<Arc<Browser>>) -> Html<String> {
    page::confusions(&browser.cases)
}

#[derive(Debug, Deserialize)]
struct ImageParams {
    file: String,
    #[serde(default)]
    size: String,
}

async fn image(
    State(browser): State<Arc<Browser>>,
    params: Result<Params<ImageParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Params(ImageParams { file, size }) =
        params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let size = if size == "large" { LARGE } else { SMALL };
    let of_image = Arc::clone(&browser);
    let _turn = browser.decoding.acquire().await;
    let jpeg = aside(move || of_image.image(&file, size)).await?;
    // Looked at again and again, and never kept on a disk.
    let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, jpeg).into_response())
}

/// What a form says.
#[derive(Debug, Deserialize)]
struct Words {
    file: String,
    #[serde(default)]
    task: String,
    decision: String,
    #[serde(default)]
    label: String,
    /// The query of the page that the form stands on.
    #[serde(default)]
    back: String,
    /// The face's place on it.
    #[serde(default)]
    place: String,
}

async fn decide(State(browser): State<Arc<Browser>>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let headers = head.headers.clone();
    of_own_page(&headers)?;
    let held = browser.forms.read(&headers, body).await?;
    let Form(words) = Form::<Words>::from_request(Request::from_parts(head, held.bytes.into()), &())
        .await
        .map_err(|error| match error {
            FormRejection::InvalidFormContentType(_) => {
                Problem::new(Cause::UnsupportedType, error.body_text())
            }
            _ => Problem::bad_request(error.body_text()),
        })?;
    let back = format!("/audit?{}#{}", words.back, words.place);
    let decision = aside(move || browser.decide(&words)).await?;
    let wants_json = headers.get(header::ACCEPT).is_some_and(|kind| kind == "application/json");
    if wants_json {
        let name = decision.as_ref().map_or("", Decision::name);
        let words = decision.as_ref().map_or(String::new(), page::words);
        return Ok(Json(serde_json::json!({ "decision": name, "words": words })).into_response());
    }
    // Whatever `back` is, it stays on this page.
    let back = HeaderValue::try_from(back).unwrap_or(HeaderValue::from_static("/audit"));
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, back)]).into_response())
}

/// Whether a form was sent by a page of this server. Browsers say so, the guard has looked at `Origin`; a program that
/// says nothing of both is no browser.
fn of_own_page(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => {
            let detail = "expected a form of this server's own pages, found one from another site";
            Err(Problem::new(Cause::Forbidden, detail))
        }
    }
}
