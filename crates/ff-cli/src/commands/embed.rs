//! `embed`: the backbone's 512 numbers for every face.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ArgGroup;
use ff_train::infer::Predictor;

use crate::faces::FaceCounts;
use crate::inference::{ImageFlags, OpenedImages, report};
use crate::model::ModelFlags;
use crate::output::{self, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Context, Ending};

/// Write the 512-number embedding of every face to a safetensors file.
///
/// The file has one tensor, `embeddings` (N,512) f32, and the images' names as a JSON array under `files` in its
/// metadata, in the same order; of photos, under `faces`, which face each row is. Images are given as to `predict`, and
/// faces found alike. An image that is missing or broken is named on stderr and left out, and the exit code is then 1;
/// photos without a face are counted. Without any face nothing is written. Without --model, --run and --weights the
/// model is FairFace's own, which `weights fairface` downloads once.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("trained").args(["model", "run", "weights"]))]
#[command(after_help = "Examples:\n  \
    embed --run runs/train-001 faces/ --out faces.safetensors\n  \
    embed --weights fairface.safetensors val.csv --images fairface --out val.safetensors")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    images: ImageFlags,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceFlag,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let out = OutputFile::claim(&args.out, Kind::Embeddings, args.force)?;
    let opened = args.images.open(Some(&args.model.source()?), context)?;
    let trained = opened.trained.expect("one was asked for");
    let (model, precision) = (trained.path.clone(), trained.model.precision());
    let mut predictor = Predictor::new(trained);
    let bar = output::progress(opened.images.len() as u64, "[{bar:30}] {pos}/{len} {per_sec} eta {eta}");
    let clock = Instant::now();
    let mut counts = None;
    let (embeddings, failed) = match opened.images {
        OpenedImages::Crops(images) => predictor.embed(*images, opened.loader, |n| bar.inc(n as u64))?,
        OpenedImages::Photos(photos) => {
            let counts = counts.insert(FaceCounts::default());
            predictor.embed_photos(&photos, opened.loader.batch_size, |rows| {
                counts.add(rows);
                bar.set_position(rows.last().map_or(0, |row| row.photo as u64 + 1));
            })?
        }
    };
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let ending = report(&failed);
    let (n, dim) = embeddings.values.dims2()?;
    let none = match counts {
        Some(counts) if counts.photos > 0 => format!("no face in {} photos can be used", counts.photos),
        _ => format!("none of {} images can be used", failed.len()),
    };
    ensure!(n > 0, "{}: not written, as {none}", out.path().display());
    out.write(&embeddings.to_safetensors()?)?;
    match &counts {
        Some(counts) => counts.note(seconds, failed.len(), Some(precision)),
        None => {
            let images_per_s = n as f64 / seconds;
            note!(
                "{n} images in {seconds:.2} s, {images_per_s:.1} images/s in {precision}; {} failed",
                failed.len()
            );
        }
    }
    if json {
        let path = out.path().display().to_string();
        let mut object =
            serde_json::json!({ "path": path, "model": model, "precision": precision, "n": n, "dim": dim });
        object["images_per_s"] = (n as f64 / seconds).into();
        if let Some(FaceCounts { photos, faces, without_face, set_aside, .. }) = counts {
            for (name, n) in [
                ("photos", photos),
                ("faces", faces),
                ("without_face", without_face),
                ("set_aside", set_aside),
            ] {
                object[name] = n.into();
            }
        }
        object["failed"] = serde_json::to_value(&failed)?;
        output::print_json(&object)?;
    } else {
        output::say!("{}", out.path().display());
    }
    Ok(ending)
}
