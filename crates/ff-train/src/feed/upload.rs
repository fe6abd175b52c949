//! Batches over to a GPU while it is at the one before: page-locked slots, recipes, and the copies.

use std::ops::Deref;
use std::sync::{Arc, Once};

use ff_data::transforms::{AffineParams, AugmentParams};
use ff_data::{Memory, Slot, SlotMemory};
use ff_eval::View;
use ff_kernels::gpu::device::{Gpu, Pinned, Uploaded, Uploads};
use ff_kernels::gpu::program::batch::RECIPE_LEN;
use ff_model::{FaceModel, Images};

use crate::Result;

/// Batches on the device at once: the one in use, and the one that is copied meanwhile.
const DEPTH: usize = 2;

/// The way of batches to one GPU.
pub struct Upload {
    gpu: Arc<Gpu>,
    uploads: Uploads,
    recipes: Vec<f32>,
}

/// A batch on the device, or on its way there.
pub struct Pixels {
    uploaded: Uploaded,
    /// The same on the host, (B,H,W,3).
    pixels: Arc<Slot<u8>>,
    /// (B,H,W,3).
    shape: [usize; 4],
    /// What the device does to each image, (B,).
    augment: Vec<AugmentParams>,
}

impl Upload {
    /// Room for batches of up to `batch_size` images of `image_len` bytes each; `None` for a model that takes planes.
    pub fn new(model: &FaceModel, batch_size: usize, image_len: usize) -> Result<Option<Self>> {
        let Some(gpu) = model.gpu() else { return Ok(None) };
        let uploads = Uploads::new(gpu, DEPTH, batch_size * image_len, batch_size * RECIPE_LEN)?;
        Ok(Some(Self { gpu: Arc::clone(gpu), uploads, recipes: Vec::new() }))
    }

    /// Where the loader's slots are to lie.
    pub fn slot_memory(&self) -> Arc<dyn SlotMemory> {
        Arc::new(PageLocked { gpu: Arc::clone(&self.gpu), told: Once::new() })
    }

    /// Begins to copy a batch (B,H,W,3) and what is to be done to it.
    pub fn begin(
        &mut self,
        pixels: Slot<u8>,
        shape: [usize; 4],
        augment: Vec<AugmentParams>,
    ) -> Result<Pixels> {
        self.copy(Arc::new(pixels), shape, augment)
    }

    /// Another view of images that are not augmented.
    pub fn view(&mut self, of: &Pixels, view: View) -> Result<Pixels> {
        let (height, width) = of.size();
        let translate = (view.shift.0 * View::pixels(width), view.shift.1 * View::pixels(height));
        let affine = (view.shift != (0, 0)).then_some(AffineParams { translate, scale: 1.0 });
        let params = AugmentParams { hflip: view.mirrored, affine, ..AugmentParams::default() };
        self.copy(Arc::clone(&of.pixels), of.shape, vec![params; of.augment.len()])
    }

    fn copy(
        &mut self,
        pixels: Arc<Slot<u8>>,
        shape: [usize; 4],
        augment: Vec<AugmentParams>,
    ) -> Result<Pixels> {
        self.recipes.resize(augment.len() * RECIPE_LEN, 0.0);
        for (recipe, params) in self.recipes.chunks_exact_mut(RECIPE_LEN).zip(&augment) {
            params.write_device_recipe(recipe);
        }
        let [_, height, width, _] = shape;
        let kept = Box::new(Shared(Arc::clone(&pixels)));
        let uploaded = self.uploads.upload(kept, (height, width), &self.recipes)?;
        Ok(Pixels { uploaded, pixels, shape, augment })
    }
}

impl Pixels {
    /// (H,W) of an image.
    pub fn size(&self) -> (usize, usize) {
        (self.shape[1], self.shape[2])
    }

    /// What the model takes.
    pub fn images(&self) -> Images<'_> {
        (&self.uploaded).into()
    }
}

/// A slot that its batch and its copy have in common.
struct Shared(Arc<Slot<u8>>);

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Slots in page-locked memory, which a GPU reads while the host goes on; where there is none, in ordinary memory.
struct PageLocked {
    gpu: Arc<Gpu>,
    told: Once,
}

impl SlotMemory for PageLocked {
    fn allocate(&self, len: usize) -> Memory<u8> {
        match Pinned::new(&self.gpu, len) {
            Ok(pinned) => Box::new(pinned),
            Err(e) => {
                self.told.call_once(|| {
                    tracing::warn!("{e}: batches are copied from ordinary memory, which is slower")
                });
                Box::new(vec![0; len])
            }
        }
    }
}
