//! What a plan keeps in memory between layers, for training and for inference.
//!
//! Training keeps raw convolution outputs and block outputs (the normalised values between are recomputed on the
//! fly) and three gradient maps; inference keeps three maps and the folded weights. Maps hold the plan's element.

use super::block::Block;
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::MapShape;
use crate::cpu::conv::stem::Stem;
use crate::cpu::norm::Norm;
use crate::cpu::pool::MaxPool;
use crate::cpu::simd::Element;

/// Everything the backward pass reads, and the gradients it passes on.
pub(super) struct TrainBuffers<E: Element> {
    pub(super) packed_images: Buffer,
    pub(super) stem: Normed<E>,
    /// Which places won in the max-pool.
    pub(super) argmax: Vec<u8>,
    pub(super) pooled: Buffer<E>,
    pub(super) blocks: Vec<TrainBlock<E>>,
    /// Gradients: of a block's output, of its first BatchNorm's output, of its input.
    pub(super) grads: [Buffer<E>; 3],
    /// Of the last batch, mean and unbiased variance, in the layout of the running statistics.
    pub(super) statistics: Vec<f64>,
    /// Whether a forward pass has been made since the last backward pass.
    pub(super) ready: bool,
}

/// What one block keeps for its backward pass.
pub(super) struct TrainBlock<E: Element> {
    pub(super) first: Normed<E>,
    pub(super) second: Normed<E>,
    pub(super) branch: Option<Normed<E>>,
    pub(super) out: Buffer<E>,
}

/// A convolution's output and the BatchNorm of it.
pub(super) struct Normed<E: Element> {
    pub(super) raw: Buffer<E>,
    pub(super) norm: Norm,
}

/// Activations in flight and folded weights.
pub(super) struct InferBuffers<E: Element> {
    pub(super) images: Buffer<E>,
    pub(super) maps: [Buffer<E>; 3],
    pub(super) stem: Folded<E>,
    pub(super) blocks: Vec<FoldedBlock<E>>,
    pub(super) fresh: bool,
}

/// The convolutions of one block.
pub(super) struct FoldedBlock<E: Element> {
    pub(super) first: Folded<E>,
    pub(super) second: Folded<E>,
    pub(super) branch: Option<Folded<E>>,
}

/// A convolution with its BatchNorm folded in.
pub(super) struct Folded<E: Element> {
    pub(super) scale: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// Transformed or packed filters, where keeping them pays.
    pub(super) filters: Option<Buffer<E>>,
}

impl<E: Element> TrainBuffers<E> {
    pub(super) fn new(stem: &Stem, max_pool: &MaxPool, blocks: &[Block<E>], statistics_len: usize) -> Self {
        let buffer = |shape: MapShape| Buffer::zeroed(shape.len());
        let largest = blocks.iter().map(|b| b.output.len()).fold(max_pool.output().len(), usize::max);
        Self {
            packed_images: Buffer::zeroed(stem.packed_len()),
            stem: Normed::new(stem.output()),
            argmax: vec![0; max_pool.output().len()],
            pooled: buffer(max_pool.output()),
            blocks: blocks
                .iter()
                .map(|block| TrainBlock {
                    first: Normed::new(block.output),
                    second: Normed::new(block.output),
                    branch: block.branch.map(|_| Normed::new(block.output)),
                    out: buffer(block.output),
                })
                .collect(),
            grads: std::array::from_fn(|_| Buffer::zeroed(largest)),
            statistics: vec![0.0; statistics_len],
            ready: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let block = |b: &TrainBlock<E>| {
            let branch = b.branch.as_ref().map_or(0, |branch| branch.raw.len());
            b.first.raw.len() + b.second.raw.len() + b.out.len() + branch
        };
        let maps = self.stem.raw.len()
            + self.pooled.len()
            + self.blocks.iter().map(block).sum::<usize>()
            + self.grads.iter().map(|grad| grad.len()).sum::<usize>();
        size_of::<E>() * maps + size_of::<f32>() * self.packed_images.len() + self.argmax.len()
    }
}

impl<E: Element> Normed<E> {
    fn new(shape: MapShape) -> Self {
        Self { raw: Buffer::zeroed(shape.len()), norm: Norm::new(shape.channels) }
    }
}

impl<E: Element> InferBuffers<E> {
    pub(super) fn new(stem: &Stem, max_pool: &MaxPool, blocks: &[Block<E>]) -> Self {
        let largest = blocks.iter().map(|b| b.output.len()).fold(max_pool.output().len(), usize::max);
        let folded = |channels: usize, filters: Option<usize>| Folded {
            scale: vec![0.0; channels],
            bias: vec![0.0; channels],
            filters: filters.map(Buffer::zeroed),
        };
        let blocks = blocks
            .iter()
            .map(|block| {
                let channels = block.output.channels;
                FoldedBlock {
                    first: folded(channels, block.first.prepared_len()),
                    second: folded(channels, block.second.prepared_len()),
                    branch: block.branch.map(|conv| folded(channels, Some(conv.packed_len()))),
                }
            })
            .collect();
        Self {
            images: Buffer::zeroed(stem.interleaved_len()),
            maps: std::array::from_fn(|_| Buffer::zeroed(largest)),
            stem: folded(stem.output().channels, None),
            blocks,
            fresh: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let filters: usize = self
            .blocks
            .iter()
            .flat_map(|block| [&block.first, &block.second].into_iter().chain(&block.branch))
            .map(|folded| folded.filters.as_ref().map_or(0, |filters| filters.len()))
            .sum();
        size_of::<E>() * (self.images.len() + self.maps.iter().map(|map| map.len()).sum::<usize>() + filters)
    }
}
