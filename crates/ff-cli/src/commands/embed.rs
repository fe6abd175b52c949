//! `embed`: the backbone's 512 numbers for every face.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ArgGroup;
use ff_train::infer::Predictor;

use crate::inference::{ImageFlags, report};
use crate::model::ModelFlags;
use crate::output::{self, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Context, Ending};

/// Write the 512-number embedding of every face to a safetensors file.
///
/// The file has one tensor, `embeddings` (N,512) f32, and the images' names as a JSON array under `files` in its
/// metadata, in the same order. Images are given as to `predict`; one that is missing or broken is named on stderr and
/// left out, and the exit code is then 1. Without any good image nothing is written. Without --model, --run and
/// --weights the model is FairFace's own, which `weights fairface` downloads once.
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
    let (trained, images, loader) = args.images.open(&args.model.source()?, context)?;
    let (model, precision) = (trained.path.clone(), trained.model.precision());
    let mut predictor = Predictor::new(trained);
    let bar = output::progress(images.len() as u64, "[{bar:30}] {pos}/{len} {per_sec} eta {eta}");
    let clock = Instant::now();
    let (embeddings, failed) = predictor.embed(images, loader, |n| bar.inc(n as u64))?;
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let ending = report(&failed);
    let (n, dim) = embeddings.values.dims2()?;
    ensure!(n > 0, "{}: not written, as none of {} images can be used", out.path().display(), failed.len());
    out.write(&embeddings.to_safetensors()?)?;
    let images_per_s = n as f64 / seconds;
    note!("{n} images in {seconds:.2} s, {images_per_s:.1} images/s in {precision}; {} failed", failed.len());
    if json {
        let path = out.path().display().to_string();
        output::print_json(&serde_json::json!({
            "path": path, "model": model, "precision": precision, "n": n, "dim": dim,
            "images_per_s": images_per_s, "failed": failed,
        }))?;
    } else {
        output::say!("{}", out.path().display());
    }
    Ok(ending)
}
