//! In place of `upload.rs` in a build without CUDA: types of which there are no values.

use std::sync::Arc;

use ff_data::Slot;
use ff_data::SlotMemory;
use ff_data::transforms::AugmentParams;
use ff_eval::View;
use ff_model::{FaceModel, Images};

use crate::Result;

/// Nothing.
pub enum Upload {}

/// Nothing.
pub enum Pixels {}

impl Upload {
    pub fn new(_: &FaceModel, _batch_size: usize, _image_len: usize) -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn slot_memory(&self) -> Arc<dyn SlotMemory> {
        match *self {}
    }

    pub fn begin(&mut self, _: Slot<u8>, _shape: [usize; 4], _: Vec<AugmentParams>) -> Result<Pixels> {
        match *self {}
    }

    pub fn view(&mut self, _: &Pixels, _: View) -> Result<Pixels> {
        match *self {}
    }
}

impl Pixels {
    pub fn size(&self) -> (usize, usize) {
        match *self {}
    }

    pub fn images(&self) -> Images<'_> {
        match *self {}
    }
}
