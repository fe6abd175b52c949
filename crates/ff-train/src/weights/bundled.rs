//! The ImageNet weights that the program carries, so that fine-tuning needs neither a file nor a network.
//!
//! `data/weights/README.md` says what they are and what eight bits cost.

use std::path::Path;

use ff_model::Architecture;
use ff_model::weights::WeightFile;

use crate::Result;

/// What they are called in messages and records.
pub(crate) const NAME: &str = "resnet34-imagenet, bundled, 8 bits";

pub(crate) const BYTES: &[u8] = include_bytes!("../../../../data/weights/resnet34-imagenet.safetensors");

/// A backbone's weights, where this program has them.
pub(super) fn weights(architecture: Architecture) -> Option<Result<WeightFile>> {
    let read = || Ok(WeightFile::parse(Path::new(NAME), BYTES.to_vec())?);
    (architecture == Architecture::Resnet34).then(read)
}
