//! A program: the backbone for one batch size, every byte of its memory placed.

use super::batch::RECIPE_LEN;
use super::command::{Buffer, BufferPlace, Command, Constants, Element};
use crate::network::Layout;

/// The backbone's work on a GPU for batches of exactly `batch` images of `height` x `width`.
///
/// [`Program::train`] and [`Program::infer`] make one. Its commands name the arena, the flat parameters, the running
/// statistics and the flat gradient; images come in by [`batch`](super::batch)'s commands.
///
/// Nobody else makes or changes one, so that whoever carries it out can rely on what its commands touch.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where parameters and running statistics lie in their flat vectors.
    pub(crate) layout: Layout,
    /// Type of the activations.
    pub(crate) element: Element,
    /// Images, B.
    pub(crate) batch: usize,
    /// Rows of an image, H.
    pub(crate) height: usize,
    /// Columns of an image, W.
    pub(crate) width: usize,
    /// Bytes of the arena, beside what convolutions need to work in.
    pub(crate) arena_len: usize,
    /// Bytes to write into the arena before the first command.
    pub(crate) constants: Constants,
    /// Where images are expected: (B,H,W,[`batch::CHANNELS`](super::batch::CHANNELS)) of `element`.
    pub(crate) images: BufferPlace,
    /// Where the embedding (B,E) f32 is left.
    pub(crate) embedding: BufferPlace,
    /// Where the backward pass expects dL/d(embedding) (B,E) f32; in a training program.
    pub(crate) grad_embedding: Option<BufferPlace>,
    /// [`Buffer::Pixels`](super::Buffer::Pixels) and recipes -> images.
    pub(crate) from_pixels: Vec<Command>,
    /// [`Buffer::Planes`](super::Buffer::Planes) -> images.
    pub(crate) from_planes: Vec<Command>,
    /// What depends on the parameters alone: once after each change of theirs. Empty in a training program.
    pub(crate) prepare: Vec<Command>,
    /// images -> embedding. In training it moves the running statistics, and leaves what `backward` needs.
    pub(crate) forward: Vec<Command>,
    /// dL/d(embedding) -> the backbone's part of the flat gradient, all of it overwritten. Empty for inference.
    pub(crate) backward: Vec<Command>,
}

impl Program {
    /// Where parameters and running statistics lie in their flat vectors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Type of the activations.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Images, B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Rows of an image, H.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of an image, W.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of the arena, beside what convolutions need to work in.
    pub fn arena_len(&self) -> usize {
        self.arena_len
    }

    /// What to write into the arena before the first command.
    pub fn constants(&self) -> &Constants {
        &self.constants
    }

    /// Where the embedding (B,E) f32 is left.
    pub fn embedding(&self) -> BufferPlace {
        self.embedding
    }

    /// Where the backward pass expects dL/d(embedding) (B,E) f32; in a training program.
    pub fn grad_embedding(&self) -> Option<BufferPlace> {
        self.grad_embedding
    }

    /// [`Buffer::Pixels`] and recipes -> images.
    pub fn from_pixels(&self) -> &[Command] {
        &self.from_pixels
    }

    /// [`Buffer::Planes`] -> images.
    pub fn from_planes(&self) -> &[Command] {
        &self.from_planes
    }

    /// What depends on the parameters alone: once after each change of theirs. Empty in a training program.
    pub fn prepare(&self) -> &[Command] {
        &self.prepare
    }

    /// images -> embedding. In training it moves the running statistics, and leaves what [`Self::backward`] needs.
    pub fn forward(&self) -> &[Command] {
        &self.forward
    }

    /// dL/d(embedding) -> the backbone's part of the flat gradient, all of it overwritten. Empty for inference.
    pub fn backward(&self) -> &[Command] {
        &self.backward
    }

    /// Bytes that the program's commands touch of a buffer from its beginning on.
    pub fn bytes_of(&self, buffer: Buffer) -> usize {
        let pixels = self.batch * self.height * self.width;
        match buffer {
            Buffer::Arena => self.arena_len,
            Buffer::Parameters | Buffer::Gradient => 4 * self.layout.parameters_len(),
            Buffer::Statistics => 4 * self.layout.statistics_len(),
            Buffer::Pixels => 3 * pixels,
            Buffer::Recipes => 4 * self.batch * RECIPE_LEN,
            Buffer::Planes => 4 * 3 * pixels,
            // The optimiser's, which no program names.
            Buffer::FirstState | Buffer::SecondState | Buffer::Average | Buffer::Scalars => 0,
        }
    }
}
