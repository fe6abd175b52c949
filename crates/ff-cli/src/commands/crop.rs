//! `crop`: from photos to a set of face crops to train on.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use ff_data::{FaceBox, ImageInput, ImageSize, ImageTable, default_workers};
use ff_train::crop_set::{CropFormat, CropOutcome, CropSpec, OldCrops, PhotoLabels, make_crop_set};
use ff_train::infer::FacesWanted;

use crate::faces::{Cut, SearchFlags};
use crate::flags::{LimitFlags, recorded_path};
use crate::inference::report;
use crate::output::{self, alert, grouped, note};
use crate::ranges::{self, number, whole};
use crate::{Context, Ending};

/// Make a set of face crops from photos, as FairFace's were made: found, turned upright, cut out.
///
/// DIR/crops holds the crops and DIR/crops.csv a row each: file, photo, face, the face's box and landmarks in the photo
/// (photo_x, ...), score, and the other columns of the photo's row. Of photos, folders and patterns every face becomes a
/// crop. Of a CSV of labelled photos every row becomes one: the face in its box (x, y, w, h) or at its landmarks, else
/// the largest; how many photos had no face, or several, is counted. Check those: labels are of one person.
///
/// Stopped by Ctrl-C or killed, the same command goes on where it was, and ends with the same files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    crop album/ --out crops                                     every face of every photo\n  \
    crop labels.csv --images photos --out crops                 a crop a row, with its labels\n  \
    crop labels.csv --images photos --out crops --padding 1.25 --size 448    FairFace's wide crops\n  \
    split --labels crops/crops.csv --images crops --out splits  and then train on them")]
pub struct Args {
    /// Photos, folders, quoted patterns, - for a list on standard input; or one CSV of labelled photos with a column
    /// `file` or `img_path`.
    #[arg(value_name = "PHOTOS", required = true, value_parser = NonEmptyStringValueParser::new())]
    inputs: Vec<String>,
    /// The folder of the set.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    out: PathBuf,
    /// The folder that paths in a CSV or list are relative to [default: the current one].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Height and width of the crops.
    #[arg(long, value_name = "N", default_value_t = 224, value_parser = whole::<usize>(ranges::IMAGE_SIZE))]
    size: usize,
    /// How much of a face is added on every side; FairFace's crops have a quarter.
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true, default_value_t = FaceBox::FAIRFACE_PADDING,
          value_parser = number(ranges::PADDING))]
    padding: f64,
    /// How crops are written.
    #[arg(long, value_enum, default_value_t)]
    format: FormatFlag,
    #[command(flatten)]
    search: SearchFlags,
    /// Begin anew, whatever crops of other photos or settings DIR holds.
    #[arg(long)]
    force: bool,
    /// Threads that read and search [default: CPUs - 2, at least 2, at most 8].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::WORKERS))]
    workers: Option<usize>,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum FormatFlag {
    /// JPEG of quality 95.
    #[default]
    Jpg,
    /// PNG, without loss.
    Png,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let spec = args.spec()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stop_on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if stop_on_signal.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: at once
        }
    })
    .context("cannot listen for Ctrl-C")?;

    let bar = output::progress(
        spec.photos.inputs.len() as u64,
        "[{bar:30}] {pos}/{len} photos {per_sec} eta {eta}",
    );
    let old = if args.force { OldCrops::Replace } else { OldCrops::GoOn };
    let clock = Instant::now();
    let made = make_crop_set(&args.out, &spec, old, |done| {
        bar.set_position(done as u64);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let CropOutcome { counts, done_before, csv } = made.map_err(|error| match error {
        ff_train::Error::OtherCrops { .. } => anyhow!("{error}; --force begins anew"),
        other => other.into(),
    })?;
    let ending = report(&counts.failed);
    let photos = counts.photos + counts.failed.len() - done_before;
    let seconds = clock.elapsed().as_secs_f64();
    note!("{photos} photos in {seconds:.2} s, {:.1} photos/s", photos as f64 / seconds.max(1e-9));
    if done_before > 0 {
        note!("{} photos were done already", grouped(done_before as u64));
    }
    if json {
        let mut object = serde_json::to_value(&counts)?;
        object["done_before"] = done_before.into();
        object["csv"] = serde_json::to_value(&csv)?;
        output::print_json(&object)?;
    } else {
        let rows = [
            ("photos", counts.photos),
            ("crops", counts.faces),
            ("photos without a face", counts.without_face),
            ("labelled photos with several faces: the largest taken", counts.several_faces),
            ("faces set aside", counts.set_aside),
            ("photos that failed", counts.failed.len()),
        ];
        let rows: Vec<_> = rows.iter().map(|&(name, n)| vec![name.to_owned(), grouped(n as u64)]).collect();
        output::say!("{}", output::table(&["crop set", "n"], &rows));
        if let Some(csv) = &csv {
            output::say!("{}", csv.display());
        }
    }
    if csv.is_none() {
        alert!(
            "stopped; the same command goes on: {} crop ... --out {}",
            context.program,
            args.out.display()
        );
        return Ok(Ending::Interrupted);
    }
    Ok(ending)
}

impl Args {
    fn spec(&self) -> Result<CropSpec> {
        ImageSize::square(self.size)?;
        let images = self.images.clone().unwrap_or_default();
        let is_csv = |text: &str| Path::new(text).extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let (inputs, labels) = match self.inputs.as_slice() {
            [csv] if is_csv(csv) => {
                let ImageTable { inputs, columns, rows } = ImageTable::read(Path::new(csv), &images)?;
                (inputs, Some(PhotoLabels { columns, rows }))
            }
            arguments => {
                let mut inputs = Vec::new();
                for argument in arguments {
                    if is_csv(argument) {
                        let message =
                            format!("{argument}: expected a CSV alone, found other photos beside it");
                        return Err(ff_data::Error::Config(message).into());
                    }
                    inputs.extend(ImageInput::expand(argument, &images, &mut std::io::stdin().lock())?);
                }
                (inputs, None)
            }
        };
        let workers = self.workers.unwrap_or_else(default_workers);
        let cut = Cut { padding: self.padding, image_size: self.size, workers };
        let photos = self.search.photos(inputs, self.limits.rules(), FacesWanted::All, cut);
        let format = match self.format {
            FormatFlag::Jpg => CropFormat::Jpg,
            FormatFlag::Png => CropFormat::Png,
        };
        Ok(CropSpec { photos, labels, format })
    }
}
