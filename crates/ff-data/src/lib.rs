//! Labelled face crops, from CSV files to batches.
//!
//! ```text
//! ff_train.csv -> Manifest (checked rows) -> EpochOrder(seed, epoch) -> workers: read, decode, augment -> slot -> Batch
//! ```
//!
//! Knows images, not networks: a [`Batch`] is plain memory, `(B,3,H,W)` f32 normalised as ImageNet models expect it (or
//! `(B,H,W,3)` u8 for a device that augments itself), with class ids for every task of a [`Schema`](ff_core::Schema).
//! Tasks are columns of the CSVs, FairFace's age, gender and race unless others are named; class counts come from the
//! labels of the training split. An empty cell is a label that is not known: `None` in a [`Row`],
//! [`UNKNOWN`](ff_core::UNKNOWN) among class ids.
//!
//! ```
//! use std::sync::Arc;
//! use ff_core::Schema;
//! use ff_data::{Augment, Dataset, Loader, LoaderConfig, Mode, Splits};
//!
//! # fn main() -> ff_data::Result<()> {
//! # let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/sample");
//! let schema = Schema::fairface();
//! let splits = Splits::read(format!("{sample}/splits"), &schema)?; // ff_train.csv, ff_val.csv, ff_test.csv
//! println!("heads: {:?}", splits.encoders.n_classes()); // age 9, gender 2, race 7: from the labels
//!
//! let mode = Mode::train(Augment::Fast, 42);
//! let dataset = Dataset::open(splits.train, format!("{sample}/images"), &splits.encoders, mode)?;
//! let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::train(32))?;
//! for batch in loader.epoch(0, 0).take(2) {
//!     let batch = batch?;
//!     assert_eq!(batch.shape, [32, 3, 224, 224]);
//!     println!("{}: race {}", batch.files[0], batch.targets["race"][0]);
//! }
//! # Ok(())
//! # }
//! ```

pub mod audit;
mod cache;
mod check_files;
mod dataset;
mod decisions;
mod decode;
pub mod duplicates;
mod encode;
mod error;
mod face_box;
mod face_points;
pub mod fairface;
mod groups;
mod image_file;
mod inputs;
mod loader;
mod manifest;
mod order;
mod parquet;
mod resize;
mod rgb_image;
mod split;
mod splits;
mod stratify;
mod thumbnail;
pub mod transforms;
mod user_cache;

pub use cache::{Cache, CacheSpec};
pub use check_files::{FileCheck, check_files};
pub use dataset::{Dataset, Mode, Scratch, StageTimes};
pub use decisions::{Decided, Decision, DecisionRow, Decisions};
pub use decode::{Decoding, ImageRules, decode, decode_into};
pub use error::{Error, Result};
pub use face_box::FaceBox;
pub use face_points::{FacePoints, FacePointsKind};
pub use groups::Groups;
pub use inputs::{ImageInput, ImageTable};
pub use loader::{
    Batch, BatchImages, Epoch, LastBatch, Layout, Loader, LoaderConfig, Memory, OnBadImage, Slot, SlotMemory,
    default_workers,
};
pub use manifest::{FilePaths, Manifest, Row};
pub use order::EpochOrder;
pub use resize::resize;
pub use rgb_image::{ImageSize, RgbImage};
pub use split::Split;
pub use splits::Splits;
pub use stratify::{OldFiles, Ratios, SplitFolder, SplitPlan, SplitSpec, pool};
pub use thumbnail::thumbnail;
pub use transforms::{Augment, AugmentSpec, Sampling};
pub use user_cache::user_cache;
