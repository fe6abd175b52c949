//! `POST /v1/faces`, `POST /v1/embed`: photos in, a row a face out, as `predict` writes them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use ff_core::PerTask;
use ff_data::transforms::{AugmentParams, augment_into};
use ff_data::{ImageRules, ImageSize, RgbImage, decode_into, resize};
use ff_train::infer::{
    FacePrediction, Failure, Judged, PhotoOptions, PhotoPrediction, PhotoSearcher, TaskPrediction,
};
use serde::Serialize;

use super::query::FaceQuery;
use super::{Api, timed};
use crate::engine::{Done, Failed, Planes, Times};
use crate::multipart::{boundary, parts};
use crate::problem::{Cause, Problem};

/// A face or a crop without its answer, and the place of its planes among the photo's.
struct Row {
    face: FaceRow,
    planes: Option<usize>,
}

/// A row as `predict` has it: of a photo, or of a crop.
#[derive(Serialize)]
#[serde(untagged)]
enum FaceRow {
    Photo(PhotoPrediction),
    Crop(FacePrediction),
}

/// What a request is answered.
#[derive(Serialize)]
struct Answered<R> {
    model: String,
    /// Faces with an answer.
    n: usize,
    photos: usize,
    faces: usize,
    without_face: usize,
    set_aside: usize,
    #[serde(flatten)]
    rows: R,
    failed: Vec<Failure>,
}

#[derive(Serialize)]
struct Predictions {
    predictions: Vec<FaceRow>,
}

#[derive(Serialize)]
struct Embeddings {
    dim: usize,
    embeddings: Vec<EmbeddedFace>,
}

#[derive(Serialize)]
struct EmbeddedFace {
    #[serde(flatten)]
    face: FaceRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
}

pub(super) async fn faces(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let (query, searched) = search(&api, request).await?;
    let tasks = api.tasks(query.tasks.as_deref())?;
    let (times, answered) = answered(&api, searched, |rows| {
        let row = |(row, judged): (FaceRow, Option<Judged>)| -> Result<FaceRow, Problem> {
            let tasks = judged.map(|judged| api.answers_of(row.file(), &judged, tasks)).transpose()?;
            Ok(row.with(tasks))
        };
        Ok(Predictions { predictions: rows.into_iter().map(row).collect::<Result<_, _>>()? })
    })?;
    Ok(timed(times, Json(answered)))
}

pub(super) async fn embed(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let (query, searched) = search(&api, request).await?;
    if query.tasks.is_some() {
        return Err(Problem::bad_request("tasks: embeddings are of none, expected no such option"));
    }
    let dim = api.served.about.embedding_len;
    let (times, answered) = answered(&api, searched, |rows| {
        let row = |(face, judged): (FaceRow, Option<Judged>)| EmbeddedFace {
            face,
            embedding: judged.map(|judged| judged.embedding),
        };
        Ok(Embeddings { dim, embeddings: rows.into_iter().map(row).collect() })
    })?;
    Ok(timed(times, Json(answered)))
}

/// What became of each photo, by name.
type Searched = Vec<(String, Result<Done<Vec<Row>>, Failed>)>;

/// Reads a request's photos, and has them searched and their faces judged.
async fn search(api: &Api, request: Request) -> Result<(FaceQuery, Searched), Problem> {
    api.admit()?;
    let query = FaceQuery::read(request.uri().query().unwrap_or_default())?;
    api.tasks(query.tasks.as_deref())?;
    let (head, body) = request.into_parts();
    let form = form_boundary(&head.headers)?;
    let held = api.bodies.read(&head.headers, body).await?;
    let memory = Arc::new(held.memory);
    let photos = match form {
        Some(boundary) => {
            let files = parts(&held.bytes, &boundary)?.into_iter().filter_map(|part| {
                let name = part.file?;
                Some((if name.is_empty() { part.name } else { name }, part.bytes))
            });
            files.collect()
        }
        None => vec![(query.name.clone().unwrap_or_else(|| "photo".to_owned()), held.bytes)],
    };
    if photos.is_empty() {
        return Err(Problem::bad_request("form: expected at least one part with a file name, found none"));
    }
    let rooms = api.served.engine.reserve(photos.len())?;
    let (mut names, mut tickets) = (Vec::new(), Vec::new());
    for ((name, photo), room) in photos.into_iter().zip(rooms) {
        let (options, rules, memory) = (api.options(&query), api.served.rules, Arc::clone(&memory));
        let (file, side) = (name.clone(), api.served.engine.options().image_size);
        names.push(name);
        tickets.push(api.served.engine.submit(room, move |searcher| {
            let prepared = match options {
                Some(options) => search_photo(searcher, file, &photo, &options),
                None => whole_crop(file, &photo, &rules, side),
            };
            // The file is not needed any more, and its memory is others'.
            drop((photo, memory));
            prepared
        }));
    }
    let answers = api.answers(tickets).await?;
    Ok((query, names.into_iter().zip(answers).collect()))
}

/// The boundary of a form; `None` where the body is an image.
fn form_boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "multipart/form-data" {
        return boundary(kind).map(Some);
    }
    if essence.starts_with("image/") || essence == "application/octet-stream" {
        return Ok(None);
    }
    let detail = format!(
        "expected image/*, application/octet-stream or multipart/form-data, found {:?}",
        ff_core::text::shortened(&essence)
    );
    Err(Problem::new(Cause::UnsupportedType, detail))
}

fn search_photo(
    searcher: &mut PhotoSearcher,
    file: String,
    photo: &[u8],
    options: &PhotoOptions,
) -> Result<(Vec<Row>, Vec<Planes>), Failed> {
    let searched = searcher.search(photo, options).map_err(of_image)?;
    let mut planes = Vec::new();
    let rows = searched.rows(&file, 0).map(|(row, crop)| {
        let place = (!crop.is_empty()).then_some(planes.len());
        if place.is_some() {
            planes.push(normalised(&crop, options.image_size));
        }
        Row { face: FaceRow::Photo(row), planes: place }
    });
    let rows = rows.collect();
    Ok((rows, planes))
}

fn whole_crop(
    file: String,
    photo: &[u8],
    rules: &ImageRules,
    side: usize,
) -> Result<(Vec<Row>, Vec<Planes>), Failed> {
    let mut image = RgbImage::default();
    decode_into(photo, rules, &mut image).map_err(of_image)?;
    let size = ImageSize { width: side, height: side };
    if (image.width, image.height) != (side, side) {
        image = resize(&image, size);
    }
    let row = FacePrediction { file, face: None, tasks: PerTask::default() };
    Ok((vec![Row { face: FaceRow::Crop(row), planes: Some(0) }], vec![normalised(&image.pixels, side)]))
}

/// A photo that does not decode is its sender's; whatever else goes wrong is ours.
fn of_image(error: ff_data::Error) -> Failed {
    // The image was in memory: it has no path to name.
    let reason = match &error {
        ff_data::Error::ImageInput { reason, .. } => reason,
        other => other,
    };
    if reason.is_bad_image() {
        Failed::Unusable(reason.to_string())
    } else {
        Failed::Internal(reason.to_string())
    }
}

/// The planes (3,S,S) of a crop (S,S,3).
fn normalised(crop: &[u8], side: usize) -> Planes {
    let mut planes = vec![0.0; 3 * side * side];
    let size = ImageSize { width: side, height: side };
    augment_into(&AugmentParams::default(), crop, size, &mut planes, &mut Vec::new());
    planes
}

/// Puts rows and answers together, and counts.
///
/// # Errors
/// No photo could be used.
fn answered<R>(
    api: &Api,
    searched: Searched,
    rows: impl FnOnce(Vec<(FaceRow, Option<Judged>)>) -> Result<R, Problem>,
) -> Result<(Times, Answered<R>), Problem> {
    let (mut all, mut failed, mut times, mut photos) = (Vec::new(), Vec::new(), Times::default(), 0);
    let one = searched.len() == 1;
    for (file, done) in searched {
        match done {
            // What is wrong with the only photo is wrong with the request.
            Err(failed) if one => return Err(failed.into()),
            Err(bug @ Failed::Internal(_)) => return Err(bug.into()),
            Err(Failed::Unusable(error)) => failed.push(Failure { file, error }),
            Ok(done) => {
                photos += 1;
                times.queue += done.times.queue;
                times.detect += done.times.detect;
                times.model += done.times.model;
                let mut judged: Vec<Option<Judged>> = done.judged.into_iter().map(Some).collect();
                let rows = done.prepared.into_iter().map(|row| {
                    (row.face, row.planes.and_then(|place| judged.get_mut(place).and_then(Option::take)))
                });
                let rows: Vec<_> = rows.collect();
                let faces = rows.iter().filter(|(row, _)| row.is_face()).count();
                api.served.engine.metrics().photo(faces);
                all.extend(rows);
            }
        }
    }
    if photos == 0 {
        let first = failed.first().map_or("", |failure| &failure.error);
        let detail = format!("none of {} photos can be used; the first: {first}", failed.len());
        return Err(Problem::new(Cause::Unprocessable, detail));
    }
    let n = all.iter().filter(|(_, judged)| judged.is_some()).count();
    let faces = all.iter().filter(|(row, _)| row.is_face()).count();
    let without_face = all.len() - faces;
    let answered = Answered {
        model: api.served.about.name.clone(),
        n,
        photos,
        faces,
        without_face,
        set_aside: faces - n,
        rows: rows(all)?,
        failed,
    };
    Ok((times, answered))
}

impl FaceRow {
    fn file(&self) -> &str {
        match self {
            Self::Photo(row) => &row.file,
            Self::Crop(row) => &row.file,
        }
    }

    /// Whether it is a face, and not a photo without one.
    fn is_face(&self) -> bool {
        match self {
            Self::Photo(row) => row.face.is_some(),
            Self::Crop(_) => true,
        }
    }

    fn with(self, tasks: Option<PerTask<TaskPrediction>>) -> Self {
        match self {
            Self::Photo(row) => Self::Photo(PhotoPrediction { tasks, ..row }),
            Self::Crop(row) => Self::Crop(FacePrediction { tasks: tasks.unwrap_or_default(), ..row }),
        }
    }
}

impl Api {
    /// How photos are searched; `None` where they are crops.
    fn options(&self, query: &FaceQuery) -> Option<PhotoOptions> {
        Some(PhotoOptions {
            rules: self.served.rules,
            wanted: query.wanted?,
            search: query.search.clone(),
            min_sharpness: query.min_sharpness,
            padding: self.served.padding,
            image_size: self.served.engine.options().image_size,
        })
    }
}
