//! What commands that use a trained model share beside the model: which images, where to compute.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ff_data::{Dataset, FaceBox, ImageInput, LoaderConfig};
use ff_train::infer::{Failure, Photos, Trained, TrainedSource, open_trained};
use ff_train::{ConfigBuilder, Preset};

use crate::faces::{Cut, FaceFlags};
use crate::flags::{ComputeFlags, LimitFlags, settle};
use crate::output::alert;
use crate::ranges::{self, number, whole};
use crate::{Context, Ending};

/// Which images, and how fast.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct ImageFlags {
    /// Images, folders, quoted patterns, CSVs with a column `file` or `img_path`, or - for a list on standard input.
    #[arg(value_name = "IMAGES", required = true, value_parser = NonEmptyStringValueParser::new())]
    inputs: Vec<String>,
    #[command(flatten)]
    pub faces: FaceFlags,
    /// The folder that paths in a CSV or list are relative to [default: the current one].
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The face in every photo, in pixels; a CSV's columns x, y, w, h say it for each.
    #[arg(long, value_name = "X,Y,W,H", allow_hyphen_values = true)]
    crop: Option<FaceBox>,
    /// How much of a face is added on every side; FairFace's crops have a quarter.
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true, default_value_t = FaceBox::FAIRFACE_PADDING,
          value_parser = number(ranges::PADDING))]
    padding: f64,
    /// Height and width that crops are resized to [default: the run's, or 224].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::IMAGE_SIZE))]
    image_size: Option<usize>,
    #[command(flatten)]
    pace: PaceFlags,
}

/// Where to compute, and how much at once.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct PaceFlags {
    /// Images in a batch [default: 32, or the evaluated run's].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::BATCH_SIZE))]
    batch_size: Option<usize>,
    /// Threads that decode [default: CPUs - 2, at least 2, at most 8].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::WORKERS))]
    workers: Option<usize>,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

impl PaceFlags {
    /// Lays these flags over a configuration.
    pub fn over(&self, builder: ConfigBuilder) -> ConfigBuilder {
        let builder = self.limits.over(self.compute.over(builder)).set("data.batch_size", self.batch_size);
        builder.set("data.workers", self.workers)
    }
}

/// A model, what it is to look at, and how fast.
pub struct Opened {
    /// The model, if one was asked for.
    pub trained: Option<Trained>,
    /// The images.
    pub images: OpenedImages,
    /// How they are loaded.
    pub loader: LoaderConfig,
}

/// What a model looks at.
pub enum OpenedImages {
    /// Images that are crops.
    Crops(Box<Dataset>),
    /// Photos, whose faces are found first.
    Photos(Photos),
}

impl OpenedImages {
    /// How many images or photos there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Crops(images) => images.len(),
            Self::Photos(photos) => photos.inputs.len(),
        }
    }
}

impl ImageFlags {
    /// The model, the images for it, and how to load them; to be called before the first tensor is made.
    pub fn open(&self, model: Option<&TrainedSource>, context: &Context) -> Result<Opened> {
        let builder = self.pace.over(ConfigBuilder::new(Preset::Sample, &context.root));
        let config = settle(builder.set("data.image_size", self.image_size))?;
        // What is wrong with the images is told before a model is read.
        let (images, mut inputs) = (self.images.clone().unwrap_or_default(), Vec::new());
        for argument in &self.inputs {
            inputs.extend(ImageInput::expand(argument, &images, &mut std::io::stdin().lock())?);
        }
        for input in &mut inputs {
            input.face = input.face.or(self.crop);
        }
        let loader = LoaderConfig::eval(config.data.batch_size).with_workers(config.data.workers);
        let trained = model.map(|model| open_trained(model, &config.train.compute()?)).transpose()?;
        let of_run = trained.as_ref().and_then(|trained| trained.image_size);
        let image_size = self.image_size.or(of_run).unwrap_or(config.data.image_size);
        let rules = config.data.rules();
        let images = match self.faces.faces.wanted() {
            None => {
                let images = Dataset::unlabelled(inputs)?.with_face_padding(self.padding).with_rules(rules);
                OpenedImages::Crops(Box::new(images.with_image_size(image_size)?))
            }
            Some(wanted) => {
                let cut = Cut { padding: self.padding, image_size, workers: loader.workers };
                OpenedImages::Photos(self.faces.search.photos(inputs, rules, wanted, cut))
            }
        };
        Ok(Opened { trained, images, loader })
    }
}

/// Says what could not be used; any such image makes the command fail in the end.
pub fn report(failures: &[Failure]) -> Ending {
    for failure in failures {
        alert!("error: {}", failure.error);
    }
    if failures.is_empty() { Ending::Success } else { Ending::Failure }
}
