//! A split, its images and what is done to them: one sample at a time, into the caller's memory.
//!
//! A sample is a function of (dataset, epoch, sample index) and of nothing else. Threads, order and batches are the
//! loader's.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ff_core::{
    Encoders, PerTask,
    random::{Purpose, generator},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    cache::{Cache, CacheSpec},
    decode::{ImageRules, RgbImage, decode_into},
    error::{Error, Result},
    face_box::{FaceBox, faces},
    image_file,
    inputs::ImageInput,
    manifest::Manifest,
    order::EpochOrder,
    resize::{ImageSize, resize_into},
    transforms::{self, AugmentParams, AugmentSpec},
};

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
}

/// A worker's memory, used again for every image.
#[derive(Debug, Default)]
pub struct Scratch {
    file: Vec<u8>,
    decoded: RgbImage,
    narrow: RgbImage,
    resized: RgbImage,
    planes: Vec<f32>,
    /// An image from the disk cache.
    kept: Vec<u8>,
    times: StageTimes,
    /// How long the last file took, until somebody asks.
    file_read: Option<Duration>,
}

/// Where the time went, added up over images and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Images made.
    pub images: u64,
    /// Reading files; reading and writing the cache.
    pub read: Duration,
    /// Decoding and resizing.
    pub decode: Duration,
    /// Augmenting and normalising.
    pub augment: Duration,
}

impl std::ops::AddAssign for StageTimes {
    fn add_assign(&mut self, other: Self) {
        self.images += other.images;
        self.read += other.read;
        self.decode += other.decode;
        self.augment += other.augment;
    }
}

impl std::ops::Sub for StageTimes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        StageTimes {
            images: self.images - earlier.images,
            read: self.read - earlier.read,
            decode: self.decode - earlier.decode,
            augment: self.augment - earlier.augment,
        }
    }
}

impl Scratch {
    /// What this memory was used for since the last call.
    pub fn take_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }

    /// How long reading a file took since the last call, if one was read.
    pub(crate) fn take_file_read(&mut self) -> Option<Duration> {
        self.file_read.take()
    }
}

impl Dataset {
    /// Encodes all labels and checks that the images folder is there with the first image in it.
    /// Images are 224 x 224 unless [`Dataset::with_image_size`] says otherwise. Where the manifest has the columns `x`, `y`,
    /// `w` and `h`, the face in that box is cut out, as of [`Dataset::unlabelled`] images; a row may leave them empty.
    ///
    /// # Errors
    /// No rows; a task of the encoders that the manifest was not read for, a label that they do not know or a box that is none (with its row); some columns of a box
    /// without the others; no such folder; the first image missing (with its path, CSV, line and folder).
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
        }
        .checked()
    }

    /// Images without labels, for prediction: evaluation mode, in the order given, and targets of no task. Faces are cut
    /// out with FairFace's padding unless [`Dataset::with_face_padding`] says otherwise.
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
        self.cache = Cache::open(spec, &self)?;
        Ok(self)
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
            Mode::Train { seed, .. } => EpochOrder::shuffled(self.len(), seed, epoch),
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

    /// Reads, decodes and resizes a sample's image, or the face in it: `(H,W,3)` u8, neither augmented nor normalised.
    /// Past the cache.
    ///
    /// # Errors
    /// [`Error::Image`], [`Error::ImageInput`] without labels: the file is missing or does not decode, or the face does
    /// not lie in it.
    ///
    /// # Panics
    /// There is no such sample.
    pub fn read_rgb<'s>(&self, sample_idx: usize, scratch: &'s mut Scratch) -> Result<&'s RgbImage> {
        let start = Instant::now();
        let mut decode_start = start;
        let mut read = |scratch: &mut Scratch| -> Result<()> {
            image_file::read(&self.image_path(sample_idx), &self.rules, &mut scratch.file)?;
            decode_start = Instant::now();
            decode_into(&scratch.file, &self.rules, &mut scratch.decoded)?;
            if let Some(face) = self.face(sample_idx) {
                face.cut(self.face_padding, &self.rules, &scratch.decoded, &mut scratch.narrow)?;
                std::mem::swap(&mut scratch.decoded, &mut scratch.narrow);
            }
            Ok(())
        };
        read(scratch).map_err(|error| self.image_error(sample_idx, error))?;
        let Scratch { decoded, narrow, resized, times, file_read, .. } = scratch;
        let fits = decoded.width == self.size.width && decoded.height == self.size.height;
        if !fits {
            resize_into(decoded, self.size, narrow, resized);
        }
        *file_read = Some(decode_start - start);
        times.read += decode_start - start;
        times.decode += decode_start.elapsed();
        Ok(if fits { decoded } else { resized })
    }

    /// Asks the system to begin reading a sample's file, and does not wait for it. Whatever is wrong with the file shows
    /// when it is read.
    pub(crate) fn read_ahead(&self, sample_idx: usize) {
        #[cfg(target_os = "linux")]
        if !self.cache.as_ref().is_some_and(|cache| cache.has(sample_idx))
            && let path = self.image_path(sample_idx)
            // Opening a pipe would wait for a writer.
            && fs_err::metadata(&path).is_ok_and(|metadata| metadata.is_file())
            && let Ok(file) = fs_err::File::open(path)
        {
            let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = sample_idx;
    }

    /// A sample's pixels `(H,W,3)` u8, neither augmented nor normalised, handed to `work`: from the cache, or decoded
    /// and then kept there. `work` also gets the planes of the scratch memory.
    fn with_pixels(
        &self,
        sample_idx: usize,
        scratch: &mut Scratch,
        work: impl FnOnce(&[u8], &mut Vec<f32>),
    ) -> Result<()> {
        let mut planes = std::mem::take(&mut scratch.planes);
        let start = Instant::now();
        let kept = self.cache.as_ref().and_then(|cache| cache.get(sample_idx, &mut scratch.kept));
        let mut work_start = Instant::now();
        if let Some(pixels) = kept {
            work(pixels, &mut planes);
            scratch.times.read += work_start - start;
        } else {
            let pixels = &self.read_rgb(sample_idx, scratch)?.pixels;
            let put_start = Instant::now();
            if let Some(cache) = &self.cache {
                cache.put(sample_idx, pixels);
            }
            work_start = Instant::now();
            work(pixels, &mut planes);
            scratch.times.read += work_start - put_start;
        }
        scratch.times.augment += work_start.elapsed();
        scratch.times.images += 1;
        scratch.planes = planes;
        Ok(())
    }

    /// Writes a sample's image `(3,H,W)` into `out`: decoded, resized, augmented in training, normalised.
    ///
    /// # Errors
    /// [`Error::Image`]: the file is missing or does not decode.
    ///
    /// # Panics
    /// There is no such sample, or `out` is not [`Dataset::image_len`] long.
    pub fn load(&self, epoch: u64, sample_idx: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<()> {
        let params = self.augment_params(epoch, sample_idx);
        self.with_pixels(sample_idx, scratch, |pixels, spare| {
            transforms::augment_into(&params, pixels, self.size, out, spare);
        })
    }

    /// As [`Dataset::load`], one plain pass per operation and past the cache: what `load` is tested against.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    ///
    /// # Panics
    /// As [`Dataset::load`].
    pub fn load_reference(
        &self,
        epoch: u64,
        sample_idx: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<()> {
        let params = self.augment_params(epoch, sample_idx);
        transforms::to_planes(self.read_rgb(sample_idx, scratch)?, out);
        transforms::apply(&params, out, self.size, &mut scratch.planes);
        transforms::normalize(out);
        Ok(())
    }

    /// Writes a sample's pixels `(H,W,3)` u8 into `out`: decoded and resized, for whoever augments them elsewhere with
    /// [`Dataset::augment_params`].
    ///
    /// # Errors
    /// As [`Dataset::load`].
    ///
    /// # Panics
    /// As [`Dataset::load`].
    pub fn load_pixels(&self, sample_idx: usize, scratch: &mut Scratch, out: &mut [u8]) -> Result<()> {
        self.with_pixels(sample_idx, scratch, |pixels, _| out.copy_from_slice(pixels))
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
