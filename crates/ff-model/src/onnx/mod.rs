//! The model as an ONNX file, for everything that runs one.
//!
//! Opset 17, batch size open, one size of images, outputs named by task, labels in the metadata under `labels` as in a
//! model file. The graph is built from `ff_kernels::network`'s layout and the parameters' own names, and written by a
//! few lines of protobuf (`proto.rs`): a dependency for that would be heavier than all of it.

mod graph;
mod proto;

use crate::images::checked_shape;
use crate::weights::labels_metadata;
use crate::{Parameters, Result, TaskLabels};
use graph::Graph;
use proto::Message;

/// Operator set of the graph; the oldest that current tools ask for.
pub const OPSET: u64 = 17;
/// What the files say they were made by.
pub const PRODUCER: &str = env!("CARGO_PKG_NAME");
/// Version of the file format that opset 17 came with.
const IR_VERSION: u64 = 8;

/// What goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Input {
    /// `images` (batch,3,height,width) f32, normalised as in training.
    #[default]
    Normalised,
    /// `images` (batch,height,width,3) u8, RGB; the graph normalises.
    Bytes,
}

/// What comes out for each task, (batch, classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Logits.
    #[default]
    Logits,
    /// Their softmax.
    Probabilities,
}

/// What happens to the norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchNorm {
    /// They are nodes of their own, with the parameters as trained.
    #[default]
    Kept,
    /// They are folded into the convolutions before them.
    Folded,
}

/// How a model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub output: Output,
    /// What happens to the norms.
    pub batch_norm: BatchNorm,
    /// Rows of the images that the graph is declared for.
    pub height: usize,
    /// Columns of those images.
    pub width: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: Input::default(),
            output: Output::default(),
            batch_norm: BatchNorm::default(),
            height: 224,
            width: 224,
        }
    }
}

/// The bytes of an ONNX file of the whole model, in evaluation mode.
///
/// # Errors
/// The parameters have no head for one of the tasks; images too small for the network.
pub fn export(parameters: &Parameters, tasks: &[TaskLabels], options: &Options) -> Result<Vec<u8>> {
    let Options { height, width, .. } = *options;
    checked_shape(&[1, 3, height, width])?;
    let graph = Graph::build(parameters, tasks, options)?;
    let mut file = Message::default();
    file.int(field::IR_VERSION, IR_VERSION);
    file.text(field::PRODUCER_NAME, PRODUCER);
    file.text(field::PRODUCER_VERSION, env!("CARGO_PKG_VERSION"));
    let mut opset = Message::default();
    opset.text(1, ""); // the standard operators
    opset.int(2, OPSET);
    file.message(field::OPSET_IMPORT, &opset);
    file.message(field::GRAPH, &graph);
    let (key, labels) = labels_metadata(tasks);
    for (key, value) in [(key, &*labels)].into_iter().chain(parameters.architecture().metadata()) {
        let mut entry = Message::default();
        entry.text(1, key);
        entry.text(2, value);
        file.message(field::METADATA_PROPS, &entry);
    }
    Ok(file.into_bytes())
}

/// Fields of `ModelProto` in onnx.proto.
mod field {
    pub(super) const IR_VERSION: u32 = 1;
    pub(super) const PRODUCER_NAME: u32 = 2;
    pub(super) const PRODUCER_VERSION: u32 = 3;
    pub(super) const GRAPH: u32 = 7;
    pub(super) const OPSET_IMPORT: u32 = 8;
    pub(super) const METADATA_PROPS: u32 = 14;
}
