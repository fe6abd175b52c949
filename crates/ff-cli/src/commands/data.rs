//! `data`: a data set from the hub, as images and label CSVs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use clap::ValueEnum;
use ff_core::disk::check_room;
use ff_data::OldFiles;
use ff_data::fairface::{FaceFile, FaceFolder, Names, WrittenSplit};
use ff_hub::fairface::{N_ROWS, Padding, Part, REPOSITORY, REVISION};
use ff_hub::hub::cache_dir;
use fs_err as fs;
use serde::Serialize;

use crate::Ending;
use crate::output::{self, grouped, note};
use crate::ranges::whole;

const CREDIT: &str = "Kärkkäinen and Joo, FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age for Bias \
                      Measurement and Mitigation, WACV 2021";
const LICENCE: &str = "CC BY 4.0";

/// Get a data set: images, and label CSVs that `split` takes.
///
/// fairface: 86,744 training and 10,954 validation faces. The Parquet files of HuggingFaceM4/FairFace, at a commit that
/// is fixed, go to the hub's cache (0.6 GB; padding 1.25: 2.1 GB) and are checked: those of padding 0.25 against the
/// SHA-256 that this version knows, those of 1.25 against what the hub announces. Then the images are written as they
/// are, as train/1.jpg, val/1.jpg and so on, and, last, fairface_label_train.csv and fairface_label_val.csv. Room on
/// the disk is looked at before. A download that breaks goes on where it stopped, and images that are there are kept,
/// when the command is run again. HF_ENDPOINT names a mirror, HF_TOKEN a token, HF_HOME the hub's cache.
#[derive(Debug, clap::Args)]
#[command(after_help = "From nothing to the full training:\n  \
    data fairface --out data/fairface/images\n  \
    split --labels data/fairface/images/fairface_label_*.csv --images data/fairface/images --out data/fairface/splits\n  \
    train --preset fairface\n\n\
    Examples:\n  \
    data fairface --limit 1000 --out faces                           the first 1,000 of each split\n  \
    data fairface --file train-*.parquet validation-*.parquet --out faces     files that were got elsewhere\n\n\
    FairFace: CC BY 4.0, Kärkkäinen and Joo, WACV 2021.")]
pub struct Args {
    /// Which data set.
    #[arg(value_enum)]
    set: Set,
    /// Folder to write images and label CSVs to: a new or empty one, or one that this command wrote to before.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How much of the surroundings the crops show, as a share of the face's box. Models are trained on 0.25.
    #[arg(long, value_enum, value_name = "P", default_value = "0.25")]
    padding: PaddingName,
    /// Take these Parquet files in place of the hub's; their names begin with train or val.
    #[arg(long, value_name = "PARQUET", num_args = 1.., conflicts_with = "padding")]
    file: Vec<PathBuf>,
    /// Take the first N faces of each split only, and of the files no more than they need.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..=1 << 24))]
    limit: Option<u64>,
    /// Write into DIR whatever is there, and replace images and label CSVs.
    #[arg(long)]
    force: bool,
    /// Seconds without a byte after which a silent hub is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = whole::<u64>(1..=86_400))]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Set {
    /// Faces with age, gender and race.
    Fairface,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PaddingName {
    #[value(name = "0.25")]
    Quarter,
    #[value(name = "1.25")]
    FiveQuarters,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Summary {
    out: PathBuf,
    source: String,
    /// Images in both splits.
    images: u64,
    /// The label CSVs.
    labels: [PathBuf; 2],
    /// Bytes of the images.
    bytes: u64,
    train: WrittenSplit,
    val: WrittenSplit,
    licence: &'static str,
    credit: &'static str,
}

/// Where the two splits' Parquet files are.
enum Source {
    Hub(Padding),
    Files([Vec<PathBuf>; 2]),
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let Set::Fairface = args.set;
    let source = Source::new(args)?;
    let old_files = if args.force { OldFiles::Replace } else { OldFiles::Keep };
    let folder = FaceFolder::open(&args.out, &source.name()?, old_files).map_err(|error| match error {
        ff_data::Error::ForeignFolder { .. } => anyhow!("{error}; --force replaces it"),
        other => other.into(),
    })?;
    source.check_room(&args.out, folder.kept_bytes()?, args.limit)?;
    let [train, val] = source.open(args.limit, Duration::from_secs(args.timeout))?;
    let bar = output::progress(0, "writing images [{bar:30}] {pos}/{len} eta {eta}");
    let written = folder.write(&train, &val, args.limit, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let (train, val) = (written.train, written.val);
    for (split, names) in [("train", train.names), ("val", val.names)] {
        if let Some(doubt) = doubt(names) {
            tracing::warn!("{split}: {doubt}; labels belong to their images all the same");
        }
    }
    let summary = Summary {
        out: args.out.clone(),
        source: source.name()?,
        images: train.images + val.images,
        labels: [train.labels.clone(), val.labels.clone()],
        bytes: train.bytes + val.bytes,
        train,
        val,
        licence: LICENCE,
        credit: CREDIT,
    };
    if json {
        output::print_json(&summary)?;
    } else {
        print(&summary, &source);
    }
    Ok(Ending::Success)
}

impl Source {
    fn new(args: &Args) -> Result<Self> {
        if args.file.is_empty() {
            return Ok(Self::Hub(match args.padding {
                PaddingName::Quarter => Padding::Quarter,
                PaddingName::FiveQuarters => Padding::FiveQuarters,
            }));
        }
        let mut splits = [Vec::new(), Vec::new()];
        for file in &args.file {
            let name = file_name(file);
            let split = ["train", "val"].iter().position(|split| name.starts_with(split));
            let split = split.ok_or_else(|| {
                anyhow!("{}: expected a file whose name begins with train or val", file.display())
            })?;
            splits[split].push(file.clone());
        }
        for (files, split) in splits.iter_mut().zip(["train", "val"]) {
            ensure!(
                !files.is_empty(),
                "expected files of both splits, found none whose name begins with {split}"
            );
            // Parts are numbered in their names.
            files.sort();
        }
        Ok(Self::Files(splits))
    }

    /// What the images come from, the same for the same images.
    fn name(&self) -> Result<String> {
        match self {
            Self::Hub(padding) => Ok(format!("{REPOSITORY} at {REVISION}, padding {}", padding.name())),
            Self::Files(splits) => {
                let files = splits.iter().flatten().map(|file| {
                    let bytes = fs::metadata(file)?.len();
                    Ok(format!("{} of {bytes} bytes", file_name(file)))
                });
                Ok(files.collect::<Result<Vec<_>>>()?.join(", "))
            }
        }
    }

    /// Refuses disks without room for what will be fetched and written.
    fn check_room(&self, out: &Path, kept: u64, limit: Option<u64>) -> Result<()> {
        /// What a file takes beyond its bytes, at most: the rest of its last block.
        const BLOCK: u64 = 4096;
        let (mut fetched, mut images) = (0, 0);
        match self {
            Self::Hub(padding) => {
                for (parts, n_rows) in padding.parts().into_iter().zip(N_ROWS) {
                    let wanted = limit.map_or(n_rows, |limit| limit.min(n_rows));
                    // The parts of a split have as many rows each, or nearly.
                    let n_parts = (wanted * parts.len() as u64).div_ceil(n_rows);
                    fetched += parts.iter().take(n_parts as usize).map(Part::bytes_to_fetch).sum::<u64>();
                    images += parts.iter().map(Part::bytes).sum::<u64>() * wanted / n_rows + BLOCK * wanted;
                }
            }
            Self::Files(splits) => {
                for file in splits.iter().flatten() {
                    let (bytes, n_rows) = (fs::metadata(file)?.len(), FaceFile::open(file)?.n_rows().max(1));
                    let wanted = limit.map_or(n_rows, |limit| limit.min(n_rows));
                    images += bytes * wanted / n_rows + BLOCK * wanted;
                }
            }
        }
        Ok(check_room(&[(&cache_dir(), fetched), (out, images.saturating_sub(kept))])?)
    }

    /// Both splits' files, as many of them as `limit` rows need.
    fn open(&self, limit: Option<u64>, timeout: Duration) -> Result<[Vec<FaceFile>; 2]> {
        let is_enough = |files: &[FaceFile]| {
            limit.is_some_and(|limit| files.iter().map(FaceFile::n_rows).sum::<u64>() >= limit)
        };
        let mut splits = [Vec::new(), Vec::new()];
        for (i, files) in splits.iter_mut().enumerate() {
            match self {
                Self::Hub(padding) => {
                    for part in padding.parts()[i] {
                        if !is_enough(files) {
                            files.push(FaceFile::open(fetch(part, timeout)?)?);
                        }
                    }
                }
                Self::Files(splits) => {
                    for file in &splits[i] {
                        if !is_enough(files) {
                            files.push(FaceFile::open(file)?);
                        }
                    }
                }
            }
        }
        Ok(splits)
    }
}

/// Gets a file of the hub.
fn fetch(part: &Part<'_>, timeout: Duration) -> Result<PathBuf> {
    let bar = output::progress(0, "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
    bar.set_message(short_name(part.file).to_owned());
    let fetched = part.fetch(timeout, &mut |transfer| {
        bar.set_length(transfer.total);
        bar.set_position(transfer.done);
    });
    bar.finish_and_clear();
    if fetched.is_err() {
        note!(
            "without a network, get the files on another machine and run `fairface data fairface --file FILES --out DIR`"
        );
    }
    Ok(fetched?.path)
}

/// `0.25/train-00000-of-00002` of `0.25/train-00000-of-00002-d405faba4f4b9b85.parquet`.
fn short_name(file: &str) -> &str {
    file.rsplit_once('-').map_or(file, |(name, _)| name)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Why an image may not have the name that FairFace gave it.
fn doubt(names: Names) -> Option<String> {
    if names.official {
        None
    } else if names.misnamed_images > 0 {
        Some(format!(
            "{} images are known under other names of FairFace's: the rows are in another order",
            names.misnamed_images
        ))
    } else if names.official_labels == Some(false) {
        Some(
            "the labels are in another order than FairFace's, or others: images are numbered by row"
                .to_owned(),
        )
    } else {
        Some("nothing shows that the images have FairFace's own names: they are numbered by row".to_owned())
    }
}

fn print(summary: &Summary, source: &Source) {
    let splits = [("train", &summary.train), ("val", &summary.val)];
    let rows = splits.map(|(name, split)| {
        let names = if split.names.official { "FairFace's" } else { "by row" };
        let numbers = [split.images, split.kept, split.bytes >> 20].map(grouped);
        [&[name.to_owned()], &numbers[..], &[names.to_owned()]].concat()
    });
    output::say!("{}", output::table(&["split", "images", "there before", "MiB", "names"], &rows));
    output::say!("written to {}", summary.out.display());
    note!("{}: {}", summary.licence, summary.credit);
    if matches!(source, Source::Hub(_)) {
        note!("the hub's files stay in {} and may be deleted there", cache_dir().display());
    }
    let out = summary.out.display();
    note!("next: `split --labels {out}/fairface_label_*.csv --images {out} --out SPLITS`");
}
