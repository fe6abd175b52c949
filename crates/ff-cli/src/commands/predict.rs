//! `predict`: what a model says about faces in images.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{ArgGroup, ValueEnum};
use ff_model::Precision;
use ff_train::infer::{FacePrediction, Failure, Predictor, TaskPrediction, fairface_csv};
use serde::Serialize;

use crate::inference::{ImageFlags, report};
use crate::model::ModelFlags;
use crate::output::{self, note, percent};
use crate::{Context, Ending};

/// Predict age, gender and race of faces, or whatever tasks the model has.
///
/// Images are taken to be face crops, and are resized to 224x224. For photos, say where the face is: --crop, or a CSV
/// with the columns x, y, w, h. The box is widened by --padding and squared, as FairFace's crops were made; what lies
/// outside the photo is black.
///
/// Without --model, --run and --weights the model is FairFace's own, which `weights fairface` downloads once.
///
/// An image that is missing or broken is named on stderr and does not stop the others; the exit code is then 1.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("trained").args(["model", "run", "weights"]))]
#[command(after_help = "Examples:\n  \
    predict face.jpg                                          FairFace's own model, after `weights fairface`\n  \
    predict --run runs/train-001 face.jpg                     one crop\n  \
    predict --run runs/train-001 faces/ 'more/**/*.png'       folders and patterns\n  \
    predict --weights fairface.safetensors --format csv val.csv --images fairface > out.csv\n  \
    predict --weights fairface.safetensors --crop 120,80,200,200 photo.jpg\n  \
    find . -name '*.jpg' | predict --run runs/train-001 --format json - > out.jsonl")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    images: ImageFlags,
    /// How results are written, a line an image; --json gives one object with all of them instead.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line, with the probability of every class.
    Json,
    /// The columns of FairFace's predict.py.
    Csv,
}

#[derive(Debug, Serialize)]
struct PredictionSummary {
    model: PathBuf,
    precision: Precision,
    n: usize,
    images_per_s: f64,
    predictions: Vec<FacePrediction>,
    failed: Vec<Failure>,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let (trained, images, loader) = args.images.open(&args.model.source()?, context)?;
    let (model, precision) = (trained.path.clone(), trained.model.precision());
    let mut predictor = Predictor::new(trained);
    let bar = output::progress(images.len() as u64, "[{bar:30}] {pos}/{len} {per_sec} eta {eta}");
    if !json && matches!(args.format, Format::Csv) {
        // A reader that has gone already is found out with the first row.
        let _ = output::write_stdout(fairface_csv::header(predictor.encoders()).as_bytes());
    }
    let clock = Instant::now();
    let (mut n, mut predictions) = (0, Vec::new());
    let failed = predictor.predict(images, loader, |batch| {
        n += batch.len();
        bar.inc(batch.len() as u64);
        if json {
            predictions.extend(batch);
            return Ok(ControlFlow::Continue(()));
        }
        let lines: String = batch.iter().map(|p| line(p, args.format)).collect();
        Ok(output::write_stdout(lines.as_bytes()))
    })?;
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let ending = report(&failed);
    let images_per_s = n as f64 / seconds;
    note!("{n} images in {seconds:.2} s, {images_per_s:.1} images/s in {precision}; {} failed", failed.len());
    if json {
        output::print_json(&PredictionSummary { model, precision, n, images_per_s, predictions, failed })?;
    }
    Ok(ending)
}

fn line(prediction: &FacePrediction, format: Format) -> String {
    match format {
        Format::Csv => fairface_csv::row(prediction),
        Format::Json => serde_json::to_string(prediction).expect("predictions are JSON") + "\n",
        Format::Text => {
            let answer = |t: &TaskPrediction| format!("{} ({})", t.label, percent(f64::from(t.probability)));
            let answers: Vec<String> = prediction.tasks.values().map(answer).collect();
            let face = prediction.face.map_or(String::new(), |face| format!(" [{face}]"));
            format!("{}{face}: {}\n", prediction.file, answers.join(", "))
        }
    }
}
