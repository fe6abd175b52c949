//! `predict`: what a model says about faces in images.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{ArgGroup, ValueEnum};
use ff_core::PerTask;
use ff_data::{Dataset, LoaderConfig};
use ff_model::Precision;
use ff_train::infer::{
    FacePrediction, Failure, PhotoPrediction, Photos, Predictor, Rect, TaskPrediction, fairface_csv,
};
use serde::Serialize;

use crate::annotate::{AnnotateFlags, Annotator};
use crate::faces::{FaceCounts, FacesFlag};
use crate::flags::TtaFlag;
use crate::inference::{ImageFlags, OpenedImages, report};
use crate::model::ModelFlags;
use crate::output::{self, note, percent};
use crate::{Context, Ending};

/// Predict age, gender and race of faces, or whatever tasks the model has.
///
/// In photos every face is found, turned upright and cut out as FairFace's crops were made; there is a row a face, with
/// its box, and a row that says so for a photo without one. An image that is such a crop already goes in as it is.
/// Where a CSV (columns x, y, w, h; or five landmarks) or --crop says where a face is, that face is meant. --faces crop
/// looks for none: images are then crops, or have a box, which is squared, widened by --padding and cut out.
///
/// Without --model, --run and --weights the model is FairFace's own, which `weights fairface` downloads once. With
/// --annotate faces are found and marked without it too.
///
/// An image that is missing or broken is named on stderr and does not stop the others; the exit code is then 1.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("trained").args(["model", "run", "weights"]))]
#[command(after_help = "Examples:\n  \
    predict photo.jpg                                         FairFace's own model, after `weights fairface`\n  \
    predict --run runs/train-001 --annotate marked album/     photos with boxes and labels too\n  \
    predict --run runs/train-001 faces/ 'more/**/*.png'       folders and patterns\n  \
    predict --min-face 12 --min-sharpness 0.003 crowd.jpg     small faces too, blurred ones set aside\n  \
    predict --weights fairface.safetensors --faces crop --format csv val.csv --images fairface > out.csv\n  \
    predict --weights fairface.safetensors --crop 120,80,200,200 photo.jpg\n  \
    find . -name '*.jpg' | predict --run runs/train-001 --format json - > out.jsonl")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    images: ImageFlags,
    /// How results are written, a line a face; --json gives one object with all of them instead.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Average the probabilities of several views of each face.
    #[arg(long, value_enum, default_value_t)]
    tta: TtaFlag,
    #[command(flatten)]
    annotate: AnnotateFlags,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line, with the probability of every class.
    Json,
    /// The columns of FairFace's predict.py; of photos, further ones say where each face is.
    Csv,
}

/// Which model answered, and in what it computed.
#[derive(Debug, Serialize)]
struct Model {
    model: PathBuf,
    precision: Precision,
}

#[derive(Debug, Serialize)]
struct PredictionSummary {
    #[serde(flatten)]
    model: Model,
    n: usize,
    images_per_s: f64,
    predictions: Vec<FacePrediction>,
    failed: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct PhotoSummary {
    #[serde(flatten)]
    model: Option<Model>,
    /// Faces with an answer.
    n: usize,
    photos: usize,
    faces: usize,
    without_face: usize,
    set_aside: usize,
    photos_per_s: f64,
    predictions: Vec<PhotoPrediction>,
    failed: Vec<Failure>,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let crops = args.images.faces.faces == FacesFlag::Crop;
    let source = match args.annotate.annotate {
        // Without a model there is nothing to average.
        Some(_) if !crops && args.tta.name().is_none() => args.model.source_if_any()?,
        _ => Some(args.model.source()?),
    };
    let opened = args.images.open(source.as_ref(), context)?;
    let model =
        opened.trained.as_ref().map(|t| Model { model: t.path.clone(), precision: t.model.precision() });
    let predictor = opened.trained.map(|trained| Predictor::new(trained).with_views(args.tta.into()));
    let show = Show { format: args.format, json };
    match (opened.images, predictor, model) {
        (OpenedImages::Photos(photos), predictor, model) => {
            photo_rows(args, &photos, predictor, opened.loader, show, model)
        }
        (OpenedImages::Crops(images), Some(predictor), Some(model)) => {
            crop_rows(*images, predictor, opened.loader, show, model)
        }
        (OpenedImages::Crops(_), ..) => unreachable!("crops are read for a model only"),
    }
}

/// How rows are shown.
#[derive(Debug, Clone, Copy)]
struct Show {
    format: Format,
    json: bool,
}

const BAR: &str = "[{bar:30}] {pos}/{len} {per_sec} eta {eta}";

fn crop_rows(
    images: Dataset,
    mut predictor: Predictor,
    loader: LoaderConfig,
    show: Show,
    model: Model,
) -> Result<Ending> {
    let bar = output::progress(images.len() as u64, BAR);
    if !show.json && matches!(show.format, Format::Csv) {
        // A reader that has gone already is found out with the first row.
        let _ = output::write_stdout(fairface_csv::header(predictor.encoders()).as_bytes());
    }
    let clock = Instant::now();
    let (mut n, mut predictions) = (0, Vec::new());
    let failed = predictor.predict(images, loader, |batch| {
        n += batch.len();
        bar.inc(batch.len() as u64);
        if show.json {
            predictions.extend(batch);
            return Ok(ControlFlow::Continue(()));
        }
        let lines: String = batch.iter().map(|p| crop_line(p, show.format)).collect();
        Ok(output::write_stdout(lines.as_bytes()))
    })?;
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let ending = report(&failed);
    let images_per_s = n as f64 / seconds;
    let precision = model.precision;
    note!("{n} images in {seconds:.2} s, {images_per_s:.1} images/s in {precision}; {} failed", failed.len());
    if show.json {
        output::print_json(&PredictionSummary { model, n, images_per_s, predictions, failed })?;
    }
    Ok(ending)
}

fn photo_rows(
    args: &Args,
    photos: &Photos,
    mut predictor: Option<Predictor>,
    loader: LoaderConfig,
    show: Show,
    model: Option<Model>,
) -> Result<Ending> {
    let folder = args.annotate.annotate.as_deref();
    let annotator = folder.map(|folder| Annotator::new(folder, photos, args.annotate.force));
    let mut annotator = annotator.transpose()?;
    let tasks: PerTask<()> = predictor.as_ref().map(|p| p.encoders().each(|_, _| ())).unwrap_or_default();
    if !show.json && matches!(show.format, Format::Csv) {
        let _ = output::write_stdout(fairface_csv::photo_header(&tasks).as_bytes());
    }
    let bar = output::progress(photos.inputs.len() as u64, BAR);
    let clock = Instant::now();
    let (mut counts, mut predictions) = (FaceCounts::default(), Vec::new());
    let mut trouble = None;
    let each = |rows: Vec<PhotoPrediction>| {
        counts.add(&rows);
        bar.set_position(rows.last().map_or(0, |row| row.photo as u64 + 1));
        if let Some(annotator) = &mut annotator
            && let Err(error) = annotator.add(&rows)
        {
            trouble = Some(error);
            return Ok(ControlFlow::Break(()));
        }
        if show.json {
            predictions.extend(rows);
            return Ok(ControlFlow::Continue(()));
        }
        let lines: String = rows.iter().map(|row| photo_line(row, &tasks, show.format)).collect();
        Ok(output::write_stdout(lines.as_bytes()))
    };
    let failed = match &mut predictor {
        Some(predictor) => predictor.predict_photos(photos, loader.batch_size, each)?,
        None => photos.rows(each)?,
    };
    if let Some(error) = trouble {
        return Err(error);
    }
    let pictures = annotator.map(Annotator::finish).transpose()?;
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let ending = report(&failed);
    counts.note(seconds, failed.len(), model.as_ref().map(|model| model.precision));
    if let (Some(n), Some(folder)) = (pictures, folder) {
        note!("{n} annotated photos in {}", folder.display());
    }
    let n = if predictor.is_some() { counts.judged() } else { 0 };
    let FaceCounts { photos, faces, without_face, set_aside, .. } = counts;
    let photos_per_s = photos as f64 / seconds.max(1e-9);
    if show.json {
        output::print_json(&PhotoSummary {
            model,
            n,
            photos,
            faces,
            without_face,
            set_aside,
            photos_per_s,
            predictions,
            failed,
        })?;
    }
    Ok(ending)
}

fn crop_line(prediction: &FacePrediction, format: Format) -> String {
    match format {
        Format::Csv => fairface_csv::row(prediction),
        Format::Json => serde_json::to_string(prediction).expect("predictions are JSON") + "\n",
        Format::Text => {
            let face = prediction.face.map_or(String::new(), |face| format!(" [{face}]"));
            format!("{}{face}: {}\n", prediction.file, answers(&prediction.tasks))
        }
    }
}

fn photo_line(row: &PhotoPrediction, tasks: &PerTask<()>, format: Format) -> String {
    match (format, &row.face) {
        (Format::Csv, _) => fairface_csv::photo_row(tasks, row),
        (Format::Json, _) => serde_json::to_string(row).expect("predictions are JSON") + "\n",
        (Format::Text, None) => format!("{}: no face found\n", row.file),
        (Format::Text, Some(face)) => {
            let Rect { x, y, width, height } = face.face.bounds;
            let score = face.face.score.map_or(String::new(), |s| format!(" {}", percent(f64::from(s))));
            let place = match face.whole_image {
                true => String::new(),
                false => format!(" #{} [{x:.0},{y:.0},{width:.0},{height:.0}]{score}", face.index),
            };
            let said = match (&row.tasks, face.set_aside) {
                (Some(tasks), _) => answers(tasks),
                (None, Some(why)) => {
                    format!("set aside, {} ({:.4})", why.text(), face.quality.sharpness)
                }
                (None, None) => "a face".to_owned(),
            };
            format!("{}{place}: {said}\n", row.file)
        }
    }
}

fn answers(tasks: &PerTask<TaskPrediction>) -> String {
    let answer = |t: &TaskPrediction| format!("{} ({})", t.label, percent(f64::from(t.probability)));
    tasks.values().map(answer).collect::<Vec<_>>().join(", ")
}
