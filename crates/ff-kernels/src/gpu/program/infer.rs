//! The inference program: BatchNorms folded into filters and biases, and a map's memory given back after its last use.

use super::backbone::Program;
use super::batch;
use super::command::Element;
use super::convs::{Convs, pooled};
use super::layers::Writer;
use crate::network::{Config, Layout};

impl Program {
    /// The forward pass on running statistics for batches of exactly `batch` images of `height` x `width`, at least 32
    /// each.
    ///
    /// # Panics
    /// No images, or images that are too small; channels that are no multiple of 16.
    pub fn infer(config: &Config, element: Element, batch: usize, height: usize, width: usize) -> Self {
        let layout = Layout::new(config);
        let convs: Convs = Self::convs(&layout, batch, height, width);
        let mut writer = Writer::new(element, &convs);
        let images = writer.map(convs.stem.input()).place();
        let embedding = writer.arena.keep(4 * batch * config.embedding_len());
        let (from_pixels, from_planes) =
            batch::commands(&mut writer.arena, element, [batch, height, width], images);
        let filters = writer.folded_filters(&convs);

        writer.fold(&convs, filters);
        let prepare = std::mem::take(&mut writer.commands);

        let stem = writer.map(convs.stem.output());
        writer.convolve_fused(&convs.stem, images, filters, None, true, stem.place());
        let mut x = writer.map(pooled(convs.stem.output()));
        writer.max_pool_only(&convs.stem, stem.place(), x.place());
        writer.arena.give(stem);
        for block in &convs.blocks {
            let inner = writer.map(block.first.output());
            writer.convolve_fused(&block.first, x.place(), filters, None, true, inner.place());
            let branch = block.downsample.as_ref().map(|conv| {
                let branch = writer.map(conv.output());
                writer.convolve_fused(conv, x.place(), filters, None, false, branch.place());
                branch
            });
            let residual = branch.as_ref().unwrap_or(&x).place();
            let out = writer.map(block.second.output());
            writer.convolve_fused(&block.second, inner.place(), filters, Some(residual), true, out.place());
            writer.arena.give(inner);
            writer.arena.give(std::mem::replace(&mut x, out));
            if let Some(branch) = branch {
                writer.arena.give(branch);
            }
        }
        writer.average(convs.output(), x.place(), embedding);

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
            grad_embedding: None,
            from_pixels,
            from_planes,
            prepare,
            forward: writer.commands,
            backward: Vec::new(),
        }
    }
}
