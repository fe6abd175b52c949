//! Labelled face crops, from CSV files to batches.
//!
//! ```text
//! ff_train.csv -> Manifest (checked rows) -> EpochOrder(seed, epoch) -> workers: read, decode, augment -> slot -> Batch
//! ```
//!
//! Knows images, not networks: a [`Batch`] is plain memory, `(B,3,H,W)` f32 normalised as ImageNet models expect it (or
//! `(B,H,W,3)` u8 for a device that augments itself), with class ids for age, gender and race. Class counts come from the labels of the training split, so another face
//! set with, say, five races needs no change.
//!
//! ```
//! use std::sync::Arc;
//! use ff_data::{Augment, Dataset, Loader, LoaderConfig, Mode, Splits};
//!
//! # fn main() -> ff_data::Result<()> {
//! # let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/sample");
//! let splits = Splits::read(format!("{sample}/splits"))?; // ff_train.csv, ff_val.csv, ff_test.csv
//! println!("heads: {:?}", splits.encoders.n_classes()); // age 9, gender 2, race 7: from the labels
//!
//! let mode = Mode::train(Augment::Fast, 42);
//! let dataset = Dataset::open(splits.train, format!("{sample}/images"), &splits.encoders, mode)?;
//! let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::train(32))?;
//! for batch in loader.epoch(0, 0).take(2) {
//!     let batch = batch?;
//!     assert_eq!(batch.shape, [32, 3, 224, 224]);
//!     println!("{}: race {}", batch.files[0], batch.targets.race[0]);
//! }
//! # Ok(())
//! # }
//! ```

mod age;
pub mod audit;
mod cache;
mod check_files;
mod dataset;
mod decode;
pub mod duplicates;
mod error;
mod face_box;
mod image_file;
mod inputs;
mod labels;
mod loader;
mod manifest;
mod order;
mod resize;
mod splits;
mod stratify;
mod table;
mod task;
mod thumbnail;
pub mod transforms;
mod user_cache;

pub use age::{AgeBin, age_order};
pub use cache::{Cache, CacheSpec};
pub use check_files::{FileCheck, check_files};
pub use dataset::{Dataset, Mode, Scratch, StageTimes};
pub use decode::{Decoding, ImageRules, RgbImage, decode, decode_into};
pub use error::{Error, Result};
pub use face_box::FaceBox;
pub use inputs::ImageInput;
pub use labels::{Encoders, LabelEncoder};
pub use loader::{
    Batch, BatchImages, Epoch, LastBatch, Layout, Loader, LoaderConfig, Memory, OnBadImage, Slot, SlotMemory,
    default_workers,
};
pub use manifest::{FilePaths, Manifest, Row};
pub use order::EpochOrder;
pub use resize::{ImageSize, resize};
pub use splits::{Split, Splits};
pub use stratify::{OldFiles, Ratios, SplitFolder, SplitPlan, SplitSpec, pool};
pub use task::{PerTask, Task};
pub use thumbnail::thumbnail;
pub use transforms::{Augment, AugmentSpec, Sampling};
pub use user_cache::user_cache;
