//! ONNX files of a ResNet-18 or ResNet-34, as weights: what others exported, and what this crate did.
//!
//! ```text
//! wire        protobuf's fields
//! message     nodes, attributes, tensors, within limits
//! graph       who makes a value and who takes it
//! backbone    convolutions and norms, told by where they stand
//! classifier  what is made of the embedding
//! ```
//!
//! Nothing is computed but what brings a norm's epsilon to the one used here. A graph that is something else is an
//! error that says which node was expected and which was found.

mod backbone;
mod classifier;
mod graph;
mod message;
mod wire;

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::TaskLabels;
use crate::Architecture;
use crate::layout::BACKBONE_PREFIX;
use backbone::Backbone;
use graph::Graph;
use message::Model;

/// Whether a file's bytes look like ONNX: a message that begins with a small number, the version of the format. A
/// safetensors file of the same first bytes has five zeros there, the rest of its header's length.
pub(super) fn is_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..0x80, rest @ ..] if rest.get(1..6).is_none_or(|rest| rest != [0; 5]))
}

/// An ONNX file that was read, and not yet understood.
pub(super) struct OnnxFile<'a>(Model<'a>);

impl<'a> OnnxFile<'a> {
    /// # Errors
    /// No ONNX, cut off, or beyond the limits.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        Model::parse(bytes).map(Self)
    }

    /// A value of its metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<&'a str> {
        self.0.metadata.iter().find(|entry| entry.0 == key).map(|entry| entry.1)
    }

    /// The tensors of the network: with `tasks` all of this project's model under its names, otherwise those of a
    /// ResNet under torchvision's.
    ///
    /// # Errors
    /// It is another network; the message names the node where that shows.
    pub(super) fn network(
        &self,
        tasks: Option<&[TaskLabels]>,
    ) -> Result<(Architecture, BTreeMap<String, Tensor>), String> {
        let graph = Graph::new(&self.0)?;
        let Backbone { architecture, mut tensors, embedding } = Backbone::find(&graph)?;
        match tasks {
            None => tensors.extend(classifier::foreign(&graph, embedding)?),
            Some(tasks) => {
                let backbone = tensors.into_iter();
                tensors =
                    backbone.map(|(name, tensor)| (format!("{BACKBONE_PREFIX}{name}"), tensor)).collect();
                tensors.extend(classifier::own_heads(&graph, embedding, tasks)?);
            }
        }
        Ok((architecture, tensors))
    }
}
