//! Which faces of photos are wanted: flags of every command that takes photos.

use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ff_data::{FaceBox, ImageInput, ImageRules, Manifest};
use ff_model::Precision;
use ff_train::infer::{FaceCheck, FaceSearch, FacesWanted, PhotoOptions, PhotoPrediction, Photos};

use crate::output::{self, grouped, note, percent};
use crate::ranges::{self, number, whole};

/// What counts as a face.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct SearchFlags {
    /// Look for faces as small as this, in pixels of their width, and leave out smaller ones; by default photos are
    /// searched at 640 pixels, where faces of 20 and more are found.
    #[arg(long, value_name = "PX", allow_hyphen_values = true, value_parser = number(ranges::FACE_WIDTH))]
    min_face: Option<f64>,
    /// How sure the detector must be, 0 to 1.
    #[arg(long, value_name = "S", allow_hyphen_values = true, default_value_t = 0.6, value_parser = number(0.0..=1.0))]
    min_score: f64,
    /// The most faces of a photo, the largest ones.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::FACES))]
    max_faces: Option<usize>,
    /// Set aside faces that are less sharp: rows without an answer. 0.002 is a blur, 0.02 usual.
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = number(ranges::SHARPNESS))]
    min_sharpness: Option<f64>,
}

/// Which faces go into the network.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct FaceFlags {
    /// Which faces of an image.
    #[arg(long, value_enum, default_value_t)]
    pub faces: FacesFlag,
    #[command(flatten)]
    pub search: SearchFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FacesFlag {
    /// All; an image that is a face crop already goes in as it is: one whose largest face lies within 35 pixels (root
    /// mean square, of 224) of where FairFace's crops have it, as 95 % of the sample's do.
    #[default]
    Auto,
    /// All, each turned upright and cut out, of crops too.
    All,
    /// The largest, turned upright and cut out.
    Largest,
    /// None is looked for: images are crops, or have a box that is cut out as it is.
    Crop,
}

impl FacesFlag {
    /// What to look for; `None` where nothing is.
    pub fn wanted(self) -> Option<FacesWanted> {
        match self {
            Self::Auto => Some(FacesWanted::Auto),
            Self::All => Some(FacesWanted::All),
            Self::Largest => Some(FacesWanted::Largest),
            Self::Crop => None,
        }
    }
}

/// How faces are cut out, and by how many threads.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// The share of a face on every side.
    pub padding: f64,
    /// Height and width.
    pub image_size: usize,
    /// Threads.
    pub workers: usize,
}

impl SearchFlags {
    /// Photos, to be searched so.
    pub fn photos(
        &self,
        inputs: Vec<ImageInput>,
        rules: ImageRules,
        wanted: FacesWanted,
        Cut { padding, image_size, workers }: Cut,
    ) -> Photos {
        let search = FaceSearch {
            min_score: self.min_score as f32,
            min_face: self.min_face.map(|width| width as f32),
            max_faces: self.max_faces,
        };
        let min_sharpness = self.min_sharpness.map(|least| least as f32);
        let options =
            PhotoOptions { rules, wanted, search, min_sharpness, padding: padding as f32, image_size };
        Photos { inputs, options, workers }
    }
}

/// What was found in photos so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaceCounts {
    /// Photos that could be searched.
    pub photos: usize,
    /// Faces in them.
    pub faces: usize,
    /// Photos without a face.
    pub without_face: usize,
    /// Faces that were set aside.
    pub set_aside: usize,
    /// Photos without a face that may be crops: small squares.
    small_squares: usize,
}

impl FaceCounts {
    /// The longest side of what may be a crop.
    const CROP_SIDE: usize = 512;

    /// Counts rows. A photo counts with its first.
    pub fn add(&mut self, rows: &[PhotoPrediction]) {
        for row in rows {
            match &row.face {
                None => {
                    self.photos += 1;
                    self.without_face += 1;
                    let small = row.size.width == row.size.height && row.size.width <= Self::CROP_SIDE;
                    self.small_squares += usize::from(small);
                }
                Some(face) => {
                    self.photos += usize::from(face.index == 0);
                    self.faces += 1;
                    self.set_aside += usize::from(face.set_aside.is_some());
                }
            }
        }
    }

    /// Faces that were judged.
    pub fn judged(&self) -> usize {
        self.faces - self.set_aside
    }

    /// Says what was found, in how long, and in what a model computed.
    pub fn note(&self, seconds: f64, failed: usize, precision: Option<Precision>) {
        let Self { photos, faces, without_face, set_aside, small_squares } = *self;
        let per_s = photos as f64 / seconds.max(1e-9);
        let aside = if set_aside > 0 {
            format!(", {} of them set aside", grouped(set_aside as u64))
        } else {
            String::new()
        };
        let precision = precision.map(|precision| format!(" in {precision}")).unwrap_or_default();
        note!(
            "{faces} face{}{aside} in {photos} photo{}, {without_face} without a face, in {seconds:.2} s, {per_s:.1} \
             photos/s{precision}; {failed} failed",
            plural(faces),
            plural(photos)
        );
        if small_squares > 0 {
            note!(
                "{small_squares} of the images without a face are small squares; if they are face crops, --faces crop \
                 takes them as they are"
            );
        }
    }
}

/// What a word has at its end for so many.
fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// Looks for faces in the images of label tables, at most so many, evenly chosen; rows with a box are no crops and are
/// left out.
pub fn check_faces(
    manifests: &[&Manifest],
    images: &Path,
    rules: ImageRules,
    workers: usize,
    most: usize,
) -> Result<FaceCheck> {
    let mut inputs = Vec::new();
    for manifest in manifests {
        let has_box = FaceBox::COLUMNS.iter().all(|name| manifest.extra_columns().iter().any(|c| c == name));
        for row in manifest.rows().iter().filter(|_| !has_box) {
            inputs.push(ImageInput { name: row.file.clone(), ..ImageInput::new(images.join(&row.file)) });
        }
    }
    let n = inputs.len();
    if n > most {
        inputs = (0..most).map(|i| inputs[i * n / most].clone()).collect();
    }
    let photos = Photos {
        inputs,
        options: PhotoOptions {
            rules,
            wanted: FacesWanted::All,
            search: FaceSearch::default(),
            min_sharpness: None,
            padding: FaceBox::FAIRFACE_PADDING as f32,
            image_size: 224,
        },
        workers,
    };
    let bar = output::progress(photos.inputs.len() as u64, "faces [{bar:30}] {pos}/{len} eta {eta}");
    let check = FaceCheck::new(&photos, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    Ok(check)
}

/// What a check found, in a line.
pub fn described(check: &FaceCheck) -> String {
    let part = |n: usize, what: &str| format!("{} ({}) {what}", grouped(n as u64), percent(check.share(n)));
    format!(
        "of {} images {}, {}, {}",
        grouped(check.images as u64),
        part(check.no_face.len(), "without a face"),
        part(check.several_faces.len(), "with several"),
        part(check.badly_placed.len(), "with one far from where crops have it")
    )
}
