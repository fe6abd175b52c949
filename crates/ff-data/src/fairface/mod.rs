//! FairFace from the hub's Parquet files: images and the two official label CSVs in a folder.
//!
//! ```text
//! train-*.parquet, validation-*.parquet -> FaceFile -> FaceFolder::write -> train/1.jpg ... val/1.jpg ...
//!                                                                           fairface_label_train.csv, fairface_label_val.csv
//! ```

mod folder;
mod known;
mod rows;

pub use folder::{FaceFolder, Names, Written, WrittenSplit};
pub use rows::{FaceFile, FaceLabels};
