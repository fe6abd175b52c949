//! A split, its images and what is done to them: one sample at a time, into the caller's memory.
//!
//! A sample is a function of (dataset, epoch, sample index) and of nothing else. Threads, order and batches are the
//! loader's.

mod identity;
mod load;
mod scratch;

use std::path::{Path, PathBuf};

use ff_core::{
    Encoders, PerTask,
    random::{Purpose, generator},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    cache::{Cache, CacheSpec},
    decode::ImageRules,
    error::{Error, Result},
    face_box::{FaceBox, faces},
    inputs::ImageInput,
    manifest::Manifest,
    order::EpochOrder,
    rgb_image::ImageSize,
    transforms::{AugmentParams, AugmentSpec},
};
pub use scratch::{Scratch, StageTimes};

/// What is done with the samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Shuffled and augmented, both by `(seed, epoch)`.
    Train {
        /// What may be drawn for a sample.
        augment: AugmentSpec,
        /// The run's seed.
        seed: u64,
    },
    /// In file order, not augmented.
    Eval,
}

impl Mode {
    /// Training with a preset (or a spec of one's own).
    pub fn train(augment: impl Into<AugmentSpec>, seed: u64) -> Self {
        Mode::Train { augment: augment.into(), seed }
    }
}

/// The rows of a manifest with their class ids and images.
#[derive(Debug)]
pub struct Dataset {
    manifest: Manifest,
    images_root: PathBuf,
    targets: PerTask<Vec<u32>>,
    /// Images whose rows have neither labels nor a common folder.
    unlabelled: Option<Vec<ImageInput>>,
    /// The face in every image, or nothing where all images are crops.
    faces: Vec<Option<FaceBox>>,
    face_padding: f64,
    mode: Mode,
    size: ImageSize,
    rules: ImageRules,
    cache: Option<Cache>,
    /// Groups that training visits alike.
    balanced: Option<Vec<u32>>,
}

impl Dataset {
    /// Encodes all labels and checks that the images folder is there with the first image in it. Images are 224 x 224
    /// unless [`Dataset::with_image_size`] says otherwise. Where the manifest has the columns `x`, `y`, `w` and `h`,
    /// the face in that box is cut out, as of [`Dataset::unlabelled`] images; a row may leave them empty.
    ///
    /// # Errors
    /// No rows; a task of the encoders that the manifest was not read for; a label that they do not know or a box that is
    /// none (with its row); some columns of a box without the others; no such folder; the first image missing (with its
    /// path, CSV, line and folder).
    pub fn open(
        manifest: Manifest,
        images_root: impl Into<PathBuf>,
        encoders: &Encoders,
        mode: Mode,
    ) -> Result<Self> {
        let images_root = images_root.into();
        if manifest.is_empty() {
            return Err(Error::NoRows { path: manifest.path().to_owned() });
        }
        let targets = manifest.encode(encoders)?;
        let faces = faces(&manifest)?;
        Dataset {
            manifest,
            images_root,
            targets,
            unlabelled: None,
            faces,
            face_padding: FaceBox::FAIRFACE_PADDING,
            mode,
            size: ImageSize::DEFAULT,
            rules: ImageRules::default(),
            cache: None,
            balanced: None,
        }
        .checked()
    }

    /// Images without labels, for prediction: evaluation mode, in the order given, and targets of no task. Faces are
    /// cut out with FairFace's padding unless [`Dataset::with_face_padding`] says otherwise.
    ///
    /// # Errors
    /// No images. Whether each is there shows when it is loaded.
    pub fn unlabelled(inputs: Vec<ImageInput>) -> Result<Self> {
        let manifest = Manifest::unlabelled(inputs.iter().map(|input| input.name.clone()));
        if manifest.is_empty() {
            return Err(Error::NoRows { path: manifest.path().to_owned() });
        }
        Ok(Dataset {
            manifest,
            images_root: PathBuf::new(),
            targets: PerTask::default(),
            faces: inputs.iter().map(|input| input.face).collect(),
            unlabelled: Some(inputs),
            face_padding: FaceBox::FAIRFACE_PADDING,
            mode: Mode::Eval,
            size: ImageSize::DEFAULT,
            rules: ImageRules::default(),
            cache: None,
            balanced: None,
        })
    }

    /// The same data with another share of a face's box added on every side, without a cache.
    #[must_use]
    pub fn with_face_padding(mut self, padding: f64) -> Self {
        (self.face_padding, self.cache) = (padding, None);
        self
    }

    /// The same data read by other rules, without a cache.
    #[must_use]
    pub fn with_rules(mut self, rules: ImageRules) -> Self {
        (self.rules, self.cache) = (rules, None);
        self
    }

    /// What its image files may be.
    pub fn rules(&self) -> &ImageRules {
        &self.rules
    }

    /// Finds a wrong images folder now and not in the middle of an epoch.
    fn checked(self) -> Result<Self> {
        if !self.images_root.is_dir() {
            return Err(Error::NoImagesRoot(self.images_root));
        }
        fs_err::metadata(self.image_path(0)).map_err(|error| self.image_error(0, error.into()))?;
        Ok(self)
    }

    /// The same data at another image size that networks take, without a cache.
    ///
    /// # Errors
    /// `side` is no multiple of 32 from 64 to 512.
    pub fn with_image_size(self, side: usize) -> Result<Self> {
        Ok(self.with_size(ImageSize::square(side)?))
    }

    /// The same data at any other image size, without a cache.
    #[must_use]
    pub fn with_size(mut self, size: ImageSize) -> Self {
        (self.size, self.cache) = (size, None);
        self
    }

    /// The same data with decoded images kept somewhere. To be said last.
    ///
    /// # Errors
    /// No room for all images; a cache file that cannot be made or read.
    pub fn with_cache(mut self, spec: &CacheSpec) -> Result<Self> {
        self.cache = Cache::open(spec, self.len(), self.image_len(), || identity::identity(&self))?;
        Ok(self)
    }

    /// The same data, of which training visits these groups alike: see [`EpochOrder::balanced`].
    ///
    /// # Panics
    /// There is not one group a row.
    #[must_use]
    pub fn with_balanced(mut self, groups: Vec<u32>) -> Self {
        assert_eq!(groups.len(), self.len(), "expected a group a row");
        self.balanced = Some(groups);
        self
    }

    /// A number that tells these images from others: of their files' names, lengths, times of change and faces, their
    /// size and how they are read.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub fn identity(&self) -> Result<u64> {
        identity::identity(self)
    }

    /// The decoded images, where they are kept.
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.manifest.len()
    }

    /// Never true: a dataset without rows does not open.
    pub fn is_empty(&self) -> bool {
        self.manifest.is_empty()
    }

    /// The rows.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Class ids a task, each `(N)` in row order, [`UNKNOWN`](ff_core::UNKNOWN) where the row does not say; of no task
    /// for a dataset without labels.
    pub fn targets(&self) -> &PerTask<Vec<u32>> {
        &self.targets
    }

    /// What is done with the samples.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The size of the images it gives.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// f32 values per image, `3 * H * W`.
    pub fn image_len(&self) -> usize {
        3 * self.size.area()
    }

    /// Where the image of a sample lies.
    pub fn image_path(&self, sample_idx: usize) -> PathBuf {
        match &self.unlabelled {
            Some(inputs) => inputs[sample_idx].path.clone(),
            None => self.images_root.join(&self.manifest.rows()[sample_idx].file),
        }
    }

    /// The face that is cut out of a sample's image; `None` where the whole image is taken.
    pub fn face(&self, sample_idx: usize) -> Option<FaceBox> {
        *self.faces.get(sample_idx)?
    }

    /// How much of a face's box is added on every side.
    pub fn face_padding(&self) -> f64 {
        self.face_padding
    }

    /// The folder that `file` columns are relative to.
    pub fn images_root(&self) -> &Path {
        &self.images_root
    }

    /// The order of an epoch: shuffled in training, file order in evaluation.
    pub fn order(&self, epoch: u64) -> EpochOrder {
        match self.mode {
            Mode::Train { seed, .. } => match &self.balanced {
                None => EpochOrder::shuffled(self.len(), seed, epoch),
                Some(groups) => EpochOrder::balanced(groups, seed, epoch),
            },
            Mode::Eval => EpochOrder::identity(self.len()),
        }
    }

    /// What augmentation does to a sample in an epoch; nothing in evaluation.
    pub fn augment_params(&self, epoch: u64, sample_idx: usize) -> AugmentParams {
        match self.mode {
            Mode::Train { augment, seed } => {
                let mut rng: ChaCha8Rng = generator(Purpose::Augment, seed, epoch, sample_idx as u64);
                augment.draw(&mut rng, self.size)
            }
            Mode::Eval => AugmentParams::default(),
        }
    }

    /// Names the file, and the row if there is one, in an error about a sample's image.
    pub(crate) fn image_error(&self, sample_idx: usize, reason: Error) -> Error {
        let path = self.image_path(sample_idx);
        if self.unlabelled.is_some() {
            return Error::ImageInput { path, reason: Box::new(reason) };
        }
        Error::Image {
            path,
            csv: self.manifest.path().to_owned(),
            line: self.manifest.rows()[sample_idx].line,
            root: self.images_root.clone(),
            reason: Box::new(reason),
        }
    }
}
