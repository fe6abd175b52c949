//! Photos -> a folder of FairFace-like crops with their CSV, to train on.
//!
//! `DIR/crops` holds the crops, `DIR/crops.csv` a row each: the crop, the photo that it is from, where the face is in it,
//! and the labels of the photo's own row. `DIR/journal.jsonl` says what is done: a line about what was asked for, and a
//! line a photo when its crops are written. Invariant: killed at any moment and begun again, the folder ends up with the
//! bytes that it would have had. The CSV appears when all photos are done.

mod journal;
mod table;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ff_core::files::{sync_disks, write_atomic, write_atomic_unsynced};
use ff_faces::Face;
use fs_err as fs;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::{Deserialize, Serialize};

use crate::infer::{Failure, Photos, SearchedPhoto};
use crate::{Error, Result};
use journal::Journal;

/// Crops' folder in the set's.
const CROPS: &str = "crops";
/// The set's CSV.
pub const CROPS_CSV: &str = "crops.csv";
/// Of 100: what a network sees of it is less than a grey level in most places.
const JPEG_QUALITY: u8 = 95;

/// What a set of crops is made of.
#[derive(Debug, Clone)]
pub struct CropSpec {
    /// The photos, and how faces are found and cut.
    pub photos: Photos,
    /// What else is known of each photo; nothing where photos were not named by a CSV.
    pub labels: Option<PhotoLabels>,
    /// How crops are written.
    pub format: CropFormat,
}

/// Columns of a CSV of photos, and a row of them a photo. Such a photo has one row and so one face: where none is
/// pointed at, its largest.
#[derive(Debug, Clone)]
pub struct PhotoLabels {
    /// The columns' names.
    pub columns: Vec<String>,
    /// A row a photo.
    pub rows: Vec<Vec<String>>,
}

/// How crops are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropFormat {
    /// JPEG of quality 95.
    Jpg,
    /// PNG.
    Png,
}

/// What becomes of crops that were made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldCrops {
    /// The work goes on where it was stopped.
    GoOn,
    /// They are made anew.
    Replace,
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CropCounts {
    /// Photos that could be searched.
    pub photos: usize,
    /// Crops.
    pub faces: usize,
    /// Photos in which no face was found.
    pub without_face: usize,
    /// Labelled photos with several faces, of which the largest was taken.
    pub several_faces: usize,
    /// Faces that were set aside.
    pub set_aside: usize,
    /// Photos that could not be used.
    pub failed: Vec<Failure>,
}

/// How the work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CropOutcome {
    /// What was made, before an interruption too.
    pub counts: CropCounts,
    /// Photos that were done already.
    pub done_before: usize,
    /// The set's CSV; `None` where `progress` broke off.
    pub csv: Option<PathBuf>,
}

/// What became of a photo, as the journal has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    photo: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    crops: Vec<CropRow>,
    /// Faces in it, of which a labelled photo gives one.
    found: usize,
    set_aside: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A crop's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CropRow {
    /// Its path in the set's folder.
    file: String,
    index: usize,
    face: Face,
    sharpness: f32,
}

/// Makes a set of crops in `dir`, or goes on with one. `progress` hears how many photos are done and may break off.
///
/// # Errors
/// Columns of labels that are the set's own; a folder that holds something else, or crops of other photos or settings;
/// another process at work there; crops that cannot be written.
pub fn make_crop_set(
    dir: &Path,
    spec: &CropSpec,
    old: OldCrops,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<CropOutcome> {
    table::check_columns(spec)?;
    let mut journal = Journal::open(dir, spec, old)?;
    fs::create_dir_all(dir.join(CROPS))?;
    let done_before = journal.entries().len();
    let mut rest = spec.photos.clone();
    rest.inputs.drain(..done_before);
    let mut broken_off = progress(done_before).is_break();
    if !broken_off {
        rest.search(|i, searched| {
            let photo = done_before + i;
            let entry = match searched {
                Ok(searched) => spec.write_crops(dir, photo, searched)?,
                Err(error) => {
                    Entry { photo, crops: Vec::new(), found: 0, set_aside: 0, error: Some(error.to_string()) }
                }
            };
            journal.add(entry)?;
            let ending = progress(photo + 1);
            broken_off = ending.is_break() && photo + 1 < spec.photos.inputs.len();
            Ok(ending)
        })?;
    }
    let counts = spec.count(journal.entries());
    if broken_off {
        return Ok(CropOutcome { counts, done_before, csv: None });
    }
    // The CSV vouches for the crops.
    sync_disks();
    let csv = dir.join(CROPS_CSV);
    write_atomic(&csv, table::csv(spec, journal.entries()).as_bytes())?;
    Ok(CropOutcome { counts, done_before, csv: Some(csv) })
}

impl CropSpec {
    fn write_crops(&self, dir: &Path, photo: usize, searched: SearchedPhoto) -> Result<Entry> {
        let found = searched.faces.len();
        let mut faces = searched.faces;
        if self.labels.is_some() {
            let area = |(face, _): &(crate::infer::PhotoFace, Vec<u8>)| face.face.bounds.area();
            let largest = faces.iter().map(area).fold(0.0, f32::max);
            faces.retain(|face| area(face) == largest);
            faces.truncate(1);
        }
        let set_aside = faces.iter().filter(|(face, _)| face.set_aside.is_some()).count();
        let mut crops = Vec::new();
        for (face, pixels) in faces.iter().filter(|(face, _)| face.set_aside.is_none()) {
            let file = format!("{CROPS}/{photo:06}-{}.{}", face.index, self.format.extension());
            let bytes = self.format.encode(pixels, self.photos.options.image_size)?;
            write_atomic_unsynced(&dir.join(&file), &bytes)?;
            crops.push(CropRow {
                file,
                index: face.index,
                face: face.face,
                sharpness: face.quality.sharpness,
            });
        }
        Ok(Entry { photo, crops, found, set_aside, error: None })
    }

    fn count(&self, entries: &[Entry]) -> CropCounts {
        let mut counts = CropCounts::default();
        for entry in entries {
            if let Some(error) = &entry.error {
                let file = self.photos.inputs[entry.photo].name.clone();
                counts.failed.push(Failure { file, error: error.clone() });
                continue;
            }
            counts.photos += 1;
            counts.faces += entry.crops.len();
            counts.without_face += usize::from(entry.found == 0);
            counts.several_faces += usize::from(self.labels.is_some() && entry.found > 1);
            counts.set_aside += entry.set_aside;
        }
        counts
    }
}

impl CropFormat {
    /// What files end in.
    const fn extension(self) -> &'static str {
        match self {
            Self::Jpg => "jpg",
            Self::Png => "png",
        }
    }

    fn encode(self, pixels: &[u8], side: usize) -> Result<Vec<u8>> {
        let (mut bytes, rgb) = (Vec::new(), ExtendedColorType::Rgb8);
        let side = u32::try_from(side).expect("crops have sides of hundreds");
        match self {
            Self::Jpg => {
                JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode(pixels, side, side, rgb)
            }
            Self::Png => PngEncoder::new(&mut bytes).write_image(pixels, side, side, rgb),
        }
        .map_err(|error| Error::BadFile { path: "crop".into(), message: error.to_string() })?;
        Ok(bytes)
    }
}
