//! A program: the backbone for one batch size, every byte of its memory placed.

use super::command::{Command, Element, Place};
use crate::resnet::Layout;

/// The backbone's work on a GPU for batches of exactly `batch` images of `height` x `width`.
///
/// [`Program::train`] and [`Program::infer`] make one. Its commands name the arena, the flat parameters, the running
/// statistics and the flat gradient; images come in by [`batch`](super::batch)'s commands.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where parameters and running statistics lie in their flat vectors.
    pub layout: Layout,
    /// Type of the activations.
    pub element: Element,
    /// Images, B.
    pub batch: usize,
    /// Rows of an image, H.
    pub height: usize,
    /// Columns of an image, W.
    pub width: usize,
    /// Bytes of the arena, beside what convolutions need to work in.
    pub arena_len: usize,
    /// Bytes to write into the arena before the first command.
    pub constants: (Place, Vec<u8>),
    /// Where images are expected: (B,H,W,[`batch::CHANNELS`](super::batch::CHANNELS)) of `element`.
    pub images: Place,
    /// Where the embedding (B,E) f32 is left.
    pub embedding: Place,
    /// Where the backward pass expects dL/d(embedding) (B,E) f32; in a training program.
    pub grad_embedding: Option<Place>,
    /// [`Buffer::Pixels`](super::Buffer::Pixels) and recipes -> images.
    pub from_pixels: Vec<Command>,
    /// [`Buffer::Planes`](super::Buffer::Planes) -> images.
    pub from_planes: Vec<Command>,
    /// What depends on the parameters alone: once after each change of theirs. Empty in a training program.
    pub prepare: Vec<Command>,
    /// images -> embedding. In training it moves the running statistics, and leaves what `backward` needs.
    pub forward: Vec<Command>,
    /// dL/d(embedding) -> the backbone's part of the flat gradient, all of it overwritten. Empty for inference.
    pub backward: Vec<Command>,
}
