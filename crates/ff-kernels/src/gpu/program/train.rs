//! The training program. What the backward pass needs of an activation is kept, the gradients take over the memory of
//! what is no longer needed.

use super::arena::Block;
use super::backbone::Program;
use super::batch;
use super::command::{BufferPlace, Element, Operation};
use super::convs::{BlockConvs, Conv, Convs, pooled};
use super::layers::{Filters, Mask, Residual, Writer};
use crate::cpu::base::shape::check_channels;
use crate::network::{Config, Layout, MIN_IMAGE_SIZE};

/// A convolution's output and its BatchNorm (4, C).
struct Normed {
    raw: Block,
    norm: Block,
}

/// What a residual block leaves for the backward pass.
struct Kept {
    first: Normed,
    /// `relu(norm(first))`
    inner: Block,
    second: Normed,
    downsample: Option<Normed>,
    out: Block,
}

impl Program {
    /// Forward and backward for batches of exactly `batch` images of `height` x `width`, at least 32 each.
    ///
    /// # Panics
    /// No images, or images that are too small; channels that are no multiple of 16.
    pub fn train(config: &Config, element: Element, batch: usize, height: usize, width: usize) -> Self {
        let layout = Layout::new(config);
        let convs = Self::convs(&layout, batch, height, width);
        let mut writer = Writer::new(element, &convs);
        let images = writer.map(convs.stem.input()).place();
        let embedding_len = 4 * batch * config.embedding_len();
        let [embedding, grad_embedding] = [(); 2].map(|()| writer.arena.keep(embedding_len));
        let (from_pixels, from_planes) =
            batch::commands(&mut writer.arena, element, [batch, height, width], images);
        let (filters, gradients) = (writer.filters(&convs), writer.filters(&convs));

        writer.pack(&convs, filters);
        let stem = writer.conv_norm(&convs.stem, images, filters);
        let map = writer.map(pooled(convs.stem.output()));
        let places = writer.arena.take(pooled(convs.stem.output()).len());
        writer.max_pool(&convs.stem, stem.raw.place(), stem.norm.place(), map.place(), places.place());
        let mut kept: Vec<Kept> = Vec::new();
        for block in &convs.blocks {
            let x = kept.last().map_or(&map, |last| &last.out).place();
            kept.push(writer.block(block, x, filters));
        }
        let last = kept.last().map_or(&map, |last| &last.out).place();
        writer.average(convs.output(), last, embedding);
        let forward = std::mem::take(&mut writer.commands);

        let mut grad = Gradient { grad: writer.map(convs.output()), more: None };
        writer.average_gradient(convs.output(), grad_embedding, grad.grad.place());
        for (i, block) in convs.blocks.iter().enumerate().rev() {
            let Some(this) = kept.pop() else { break };
            debug_assert_eq!(kept.len(), i);
            let x = kept.last().map_or(&map, |last| &last.out).place();
            grad = writer.block_gradient(block, this, x, grad, filters, gradients);
        }
        writer.stem_gradient(&convs.stem, stem, &places, images, grad, gradients);
        writer.unpack(&convs, gradients);

        Self {
            layout,
            element,
            batch,
            height,
            width,
            arena_len: writer.arena.len(),
            constants: writer.constants(),
            images,
            embedding,
            grad_embedding: Some(grad_embedding),
            from_pixels,
            from_planes,
            prepare: Vec::new(),
            forward,
            backward: writer.commands,
        }
    }

    pub(super) fn convs(layout: &Layout, batch: usize, height: usize, width: usize) -> Convs {
        assert!(batch >= 1, "a program needs at least one image");
        assert!(
            height.min(width) >= MIN_IMAGE_SIZE,
            "expected images of at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}, found {height}x{width}"
        );
        // Kernels read whole vectors of channels, and count elements in 32 bits.
        layout.conv_norms().for_each(|layer| check_channels("program", layer.conv.outputs));
        Convs::new(layout, batch, height, width)
    }
}

/// The gradient of a block's output, before its ReLU has masked it: a map, and another to be added.
struct Gradient {
    grad: Block,
    more: Option<Block>,
}

impl Writer {
    fn conv_norm(&mut self, conv: &Conv, x: BufferPlace, filters: Filters) -> Normed {
        let raw = self.map(conv.output());
        let norm = self.arena.take(4 * 4 * conv.geometry.outputs);
        self.convolve(conv, Operation::Forward, x, filters, raw.place());
        self.norm_statistics(conv, raw.place(), norm.place());
        Normed { raw, norm }
    }

    fn block(&mut self, block: &BlockConvs, x: BufferPlace, filters: Filters) -> Kept {
        let first = self.conv_norm(&block.first, x, filters);
        let inner = self.map(block.first.output());
        self.norm_relu(&block.first, first.raw.place(), first.norm.place(), Residual::None, inner.place());
        let second = self.conv_norm(&block.second, inner.place(), filters);
        let downsample = block.downsample.as_ref().map(|conv| self.conv_norm(conv, x, filters));
        let residual = match &downsample {
            Some(Normed { raw, norm }) => Residual::Normed { raw: raw.place(), norm: norm.place() },
            None => Residual::Plain(x),
        };
        let out = self.map(block.second.output());
        self.norm_relu(&block.second, second.raw.place(), second.norm.place(), residual, out.place());
        Kept { first, inner, second, downsample, out }
    }

    /// From the gradient of a block's output to that of its input `x`; the block's memory is given back on the way.
    fn block_gradient(
        &mut self,
        block: &BlockConvs,
        kept: Kept,
        x: BufferPlace,
        of_output: Gradient,
        filters: Filters,
        gradients: Filters,
    ) -> Gradient {
        let Kept { first, inner, second, downsample, out } = kept;
        let BlockConvs { first: conv1, second: conv2, downsample: branch } = block;

        // Behind the last ReLU: what goes on through the second convolution and past both.
        let masked = self.map(conv2.output());
        let more = of_output.more.as_ref().map(Block::place);
        let mask = Mask::Activation(out.place());
        let (raw, norm) = (second.raw.place(), second.norm.place());
        self.norm_gradient(conv2, of_output.grad.place(), more, mask, raw, norm, Some(masked.place()));
        self.give(of_output);
        self.arena.give(out);

        let d_second = self.map(conv2.output());
        self.norm_input_gradient(conv2, masked.place(), Mask::None, raw, norm, d_second.place());
        self.give_normed(second);
        self.convolve(conv2, Operation::BackwardFilter, inner.place(), gradients, d_second.place());
        self.arena.give(inner);
        let d_inner = self.map(conv2.input());
        self.convolve(conv2, Operation::BackwardData, d_inner.place(), filters, d_second.place());
        self.arena.give(d_second);

        let (raw, norm) = (first.raw.place(), first.norm.place());
        self.norm_gradient(conv1, d_inner.place(), None, Mask::Normed, raw, norm, None);
        let d_first = self.map(conv1.output());
        self.norm_input_gradient(conv1, d_inner.place(), Mask::Normed, raw, norm, d_first.place());
        self.arena.give(d_inner);
        self.give_normed(first);
        self.convolve(conv1, Operation::BackwardFilter, x, gradients, d_first.place());
        let grad = self.map(conv1.input());
        self.convolve(conv1, Operation::BackwardData, grad.place(), filters, d_first.place());
        self.arena.give(d_first);

        let (Some(conv), Some(normed)) = (branch, downsample) else {
            return Gradient { grad, more: Some(masked) };
        };
        let (raw, norm) = (normed.raw.place(), normed.norm.place());
        self.norm_gradient(conv, masked.place(), None, Mask::None, raw, norm, None);
        let d_branch = self.map(conv.output());
        self.norm_input_gradient(conv, masked.place(), Mask::None, raw, norm, d_branch.place());
        self.arena.give(masked);
        self.give_normed(normed);
        self.convolve(conv, Operation::BackwardFilter, x, gradients, d_branch.place());
        let more = self.map(conv.input());
        self.convolve(conv, Operation::BackwardData, more.place(), filters, d_branch.place());
        self.arena.give(d_branch);
        Gradient { grad, more: Some(more) }
    }

    fn stem_gradient(
        &mut self,
        stem: &Conv,
        normed: Normed,
        places: &Block,
        images: BufferPlace,
        of_output: Gradient,
        gradients: Filters,
    ) {
        let Gradient { grad, more } = &of_output;
        if let Some(more) = more {
            self.add(pooled(stem.output()), grad.place(), more.place(), grad.place());
        }
        let d_raw = self.map(stem.output());
        let (raw, norm) = (normed.raw.place(), normed.norm.place());
        self.max_pool_gradient(stem, grad.place(), places.place(), raw, norm, d_raw.place());
        self.convolve(stem, Operation::BackwardFilter, images, gradients, d_raw.place());
    }

    fn give(&mut self, gradient: Gradient) {
        self.arena.give(gradient.grad);
        if let Some(more) = gradient.more {
            self.arena.give(more);
        }
    }

    fn give_normed(&mut self, normed: Normed) {
        self.arena.give(normed.raw);
        self.arena.give(normed.norm);
    }
}
