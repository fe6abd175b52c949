//! From the loader to the model: batches in the form, and in the memory, that the model's engine takes.
//!
//! Planes are made by the loader's workers and copied to the model's device when they are used. The fast engine on
//! CUDA takes pixels instead: they lie in page-locked slots, go over on a stream of their own while the device is at
//! the batch before ([`Batches::look_ahead`]), and are augmented there. What the network sees is the same to rounding.

// Without CUDA there is nothing to upload to: the same names, and nothing behind them.
#[cfg_attr(not(feature = "cuda"), path = "no_upload.rs")]
mod upload;

mod room;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use ff_core::PerTask;
use ff_data::transforms::{IMAGENET_MEAN, IMAGENET_STD};
use ff_data::{Batch, BatchImages, Dataset, Epoch, Layout, Loader, LoaderConfig, Slot};
use ff_eval::View;
use ff_model::{FaceModel, Images};

use crate::Result;
use crate::mixing::Mix;
pub use room::{BatchPlan, Pass, check_room};
use upload::{Pixels, Upload};

/// Who augments images, and in which form they leave the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Augmentation {
    /// The device, where the model's engine can; else the host.
    OnDevice,
    /// The host: for whoever needs finished images there, as mixup and cutmix do.
    OnHost,
}

/// A loader, and the way from it to a model.
pub struct Feeder {
    loader: Loader,
    device: Device,
    upload: Option<Upload>,
}

/// The batches of an epoch, in order, on their way to the model.
pub struct Batches<'f> {
    epoch: Epoch<'f>,
    upload: Option<&'f mut Upload>,
    ahead: Option<Option<Result<InputBatch>>>,
}

/// A batch on its way.
pub struct InputBatch {
    /// Its images.
    pub images: InputImages,
    /// Whose images they are.
    pub samples: Samples,
}

/// What is known of a batch's images.
#[derive(Debug)]
pub struct Samples {
    /// Class ids, each (B,), [`ff_core::UNKNOWN`] where a label is not known; no tasks for a dataset without labels.
    pub targets: PerTask<Vec<u32>>,
    /// The samples' `file` fields, (B,).
    pub files: Vec<String>,
    /// Which rows of the manifest they are, (B,).
    pub sample_indices: Vec<u32>,
}

/// A batch's images before they are used.
pub enum InputImages {
    /// Augmented and normalised planes of this shape, (B,3,H,W) f32, on the host.
    Planes(Slot<f32>, [usize; 4]),
    /// Pixels that are being copied to the device.
    Pixels(Pixels),
}

/// A batch's images for the model.
pub enum Ready {
    /// (B,3,H,W) f32 on the model's device.
    Planes(Tensor),
    /// Pixels on the device, and what is to be done to them.
    Pixels(Pixels),
}

impl Feeder {
    /// Starts a loader of whatever layout this model takes.
    ///
    /// # Errors
    /// As [`Loader::new`]; no room on the device for the batches.
    pub fn new(
        dataset: Arc<Dataset>,
        config: LoaderConfig,
        model: &FaceModel,
        augmentation: Augmentation,
    ) -> Result<Self> {
        let upload = match augmentation {
            Augmentation::OnDevice => Upload::new(model, config.batch_size, dataset.image_len())?,
            Augmentation::OnHost => None,
        };
        let loader = match &upload {
            None => Loader::new(dataset, config.with_layout(Layout::Planes))?,
            Some(upload) => {
                Loader::with_memory(upload.slot_memory(), dataset, config.with_layout(Layout::Pixels))?
            }
        };
        Ok(Self { loader, device: model.device().clone(), upload })
    }

    /// The loader.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Where its batches go.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// As [`Loader::epoch`].
    pub fn epoch(&mut self, epoch: u64, first_batch: usize) -> Batches<'_> {
        self.batches(epoch, first_batch..self.loader.n_batches())
    }

    /// As [`Loader::batches`].
    pub fn batches(&mut self, epoch: u64, places: impl IntoIterator<Item = usize>) -> Batches<'_> {
        let epoch = self.loader.batches(epoch, places);
        Batches { epoch, upload: self.upload.as_mut(), ahead: None }
    }
}

impl Batches<'_> {
    /// Begins to copy the next batch, if it is copied at all before it is used. To be called when the device has
    /// something to do meanwhile; waits for the loader. What goes wrong is said when the batch's turn comes.
    pub fn look_ahead(&mut self) {
        if self.upload.is_some() && self.ahead.is_none() {
            self.ahead = Some(self.fetch());
        }
    }

    /// Another view of a batch that is in use and is not augmented; what a shift uncovers is black.
    pub fn view(&mut self, ready: &Ready, view: View) -> Result<Ready> {
        match ready {
            Ready::Planes(planes) => Ok(Ready::Planes(view_of(planes, view)?)),
            Ready::Pixels(pixels) => {
                let upload = self.upload.as_mut().expect("pixels were uploaded");
                Ok(Ready::Pixels(upload.view(pixels, view)?))
            }
        }
    }

    fn fetch(&mut self) -> Option<Result<InputBatch>> {
        let batch = self.epoch.next()?;
        Some(batch.map_err(Into::into).and_then(|batch| self.feed(batch)))
    }

    fn feed(&mut self, batch: Batch) -> Result<InputBatch> {
        let Batch { images, shape, augment, targets, files, sample_indices, .. } = batch;
        let images = match (images, &mut self.upload) {
            (BatchImages::Planes(planes), _) => InputImages::Planes(planes, shape),
            (BatchImages::Pixels(pixels), Some(upload)) => {
                InputImages::Pixels(upload.begin(pixels, shape, augment)?)
            }
            (BatchImages::Pixels(_), None) => unreachable!("only who uploads asks for pixels"),
        };
        Ok(InputBatch { images, samples: Samples { targets, files, sample_indices } })
    }
}

/// A view of normalised planes (B,3,H,W); what a shift uncovers is black.
pub fn view_of(planes: &Tensor, View { mirrored, shift }: View) -> Result<Tensor> {
    let mut planes = if mirrored { planes.flip(&[3])? } else { planes.clone() };
    let black = std::array::from_fn::<f32, 3, _>(|c| -IMAGENET_MEAN[c] / IMAGENET_STD[c]);
    let black = Tensor::new(&black, planes.device())?.reshape((1, 3, 1, 1))?;
    for (dim, shift) in [(3, shift.0), (2, shift.1)] {
        let (side, by) = (planes.dim(dim)?, shift * View::pixels(planes.dim(dim)?));
        if by == 0 {
            continue;
        }
        let n = (by.unsigned_abs() as usize).min(side);
        let mut shape = planes.dims().to_vec();
        shape[dim] = n;
        let uncovered = black.broadcast_as(shape)?;
        planes = match by > 0 {
            true => Tensor::cat(&[&uncovered, &planes.narrow(dim, 0, side - n)?], dim)?,
            false => Tensor::cat(&[&planes.narrow(dim, n, side - n)?, &uncovered], dim)?,
        };
    }
    Ok(planes)
}

impl Iterator for Batches<'_> {
    type Item = Result<InputBatch>;

    fn next(&mut self) -> Option<Result<InputBatch>> {
        match self.ahead.take() {
            Some(fetched) => fetched,
            None => self.fetch(),
        }
    }
}

impl InputImages {
    /// (H,W) of an image.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Planes(_, [_, _, height, width]) => (*height, *width),
            Self::Pixels(pixels) => pixels.size(),
        }
    }

    /// Puts them where the model computes, mixed in pairs first if `mix` says so.
    ///
    /// # Panics
    /// There is a `mix` for pixels: see [`Augmentation::OnHost`].
    pub fn ready(self, mix: Option<&Mix>, device: &Device) -> Result<Ready> {
        Ok(match (self, mix) {
            (Self::Planes(planes, shape), None) => {
                Ready::Planes(Tensor::from_slice(&planes, &shape, device)?)
            }
            (Self::Planes(planes, shape), Some(mix)) => {
                Ready::Planes(Tensor::from_vec(mix.apply(&planes, shape), &shape, device)?)
            }
            (Self::Pixels(pixels), None) => Ready::Pixels(pixels),
            (Self::Pixels(_), Some(_)) => panic!("images are mixed on the host, where there are pixels only"),
        })
    }
}

impl Ready {
    /// What the model takes.
    pub fn images(&self) -> Images<'_> {
        match self {
            Self::Planes(planes) => planes.into(),
            Self::Pixels(pixels) => pixels.images(),
        }
    }
}

impl Samples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Never true for a loader's batch.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Their class ids (B,) u32, one tensor a task.
    pub fn targets_on(&self, device: &Device) -> Result<Vec<Tensor>> {
        self.targets.values().map(|ids| Ok(Tensor::new(ids.as_slice(), device)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the transforms move them that training and a GPU's kernels know.
    #[test]
    fn views_are_those_of_the_transforms() {
        use ff_data::ImageSize;
        use ff_data::transforms::{self, AffineParams, AugmentParams};

        let size = ImageSize { width: 56, height: 28 };
        let image: Vec<f32> = (0..3 * size.area()).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
        let mut plain = image.clone();
        transforms::normalize(&mut plain);
        let planes = Tensor::from_vec(plain, (1, 3, size.height, size.width), &Device::Cpu).unwrap();
        for mirrored in [false, true] {
            for shift in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] {
                let view = View { mirrored, shift };
                let found = view_of(&planes, view).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let translate = (2 * shift.0, shift.1);
                let affine = Some(AffineParams { translate, scale: 1.0 });
                let params = AugmentParams { hflip: mirrored, affine, ..AugmentParams::default() };
                let mut expected = image.clone();
                transforms::apply(&params, &mut expected, size, &mut Vec::new());
                transforms::normalize(&mut expected);
                let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(most < 1e-5, "{view:?}: differs by {most}");
            }
        }
    }
}
