//! The plan: shapes, kernels and buffers of every layer, for up to `batch` images of one size.

use std::sync::Arc;

use super::block::Block;
use super::buffers::{InferBuffers, TrainBuffers};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::conv::stem::Stem;
use crate::cpu::fuse::sums::ChannelSums;
use crate::cpu::norm::Coefficients;
use crate::cpu::pool::MaxPool;
use crate::cpu::simd::Element;
use crate::network::{BasicBlock, Config, ConvSlot, Layout, MIN_IMAGE_SIZE, Mode};

/// A layer of a plan, for listings.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `layer1.0.conv1`
    pub name: String,
    /// Input shape.
    pub input: [usize; 4],
    /// Output shape, NHWC.
    pub output: [usize; 4],
    /// The kernel.
    pub algorithm: String,
    /// Of the direct convolution, forward, whole batch.
    pub gflop: f64,
}

/// A backbone for up to `batch` images of `height` x `width`, ready to run, whose activations are `E`.
pub struct Plan<E: Element = f32> {
    pub(super) pool: Arc<ThreadPool>,
    pub(super) layout: Layout,
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Images of the last call, which the shapes below are for.
    pub(super) images: usize,
    pub(super) stem: Stem,
    pub(super) max_pool: MaxPool,
    pub(super) blocks: Vec<Block<E>>,
    pub(super) sums: ChannelSums,
    pub(super) coefficients: [Coefficients; 2],
    pub(super) workspace: Buffer,
    pub(super) buffers: Buffers<E>,
}

/// What differs between the modes.
pub(super) enum Buffers<E: Element> {
    Train(Box<TrainBuffers<E>>),
    Infer(Box<InferBuffers<E>>),
}

impl<E: Element> Plan<E> {
    /// A plan for up to `batch` images of `height` x `width` (at least [`MIN_IMAGE_SIZE`] each).
    pub fn new(
        config: &Config,
        batch: usize,
        height: usize,
        width: usize,
        pool: Arc<ThreadPool>,
        mode: Mode,
    ) -> Self {
        assert!(batch >= 1, "a plan needs at least one image");
        assert!(
            height.min(width) >= MIN_IMAGE_SIZE,
            "expected images of at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}, found {height}x{width}"
        );
        let layout = Layout::new(config);
        let threads = pool.threads();
        let stem = Stem::new(batch, height, width, config.stem_channels, threads);
        let max_pool = MaxPool::new(stem.output());
        let mut shape = max_pool.output();
        let mut blocks = Vec::new();
        for block in &layout.blocks {
            let block = Block::new(block, shape, threads, mode);
            shape = block.output;
            blocks.push(block);
        }
        let widest = config.stages.iter().map(|stage| stage.width).fold(config.stem_channels, usize::max);
        // Blockings follow the number of images, so the workspace must do for every number up to the batch.
        let mut workspace = 0;
        for images in (1..=batch).rev() {
            for block in &mut blocks {
                block.set_batch(images);
                workspace = workspace.max(block.workspace_len(mode));
            }
        }
        let pool_row = threads * stem.output().width * config.stem_channels;
        let stem_len = match mode {
            Mode::Train => stem.workspace_len().max(pool_row),
            Mode::Infer => stem.pooled_workspace_len::<E>(),
        };
        let workspace = workspace.max(stem_len);
        for block in &mut blocks {
            block.set_batch(batch);
        }
        let buffers = match mode {
            Mode::Train => {
                let statistics_len = layout.statistics_len();
                Buffers::Train(Box::new(TrainBuffers::new(&stem, &max_pool, &blocks, statistics_len)))
            }
            Mode::Infer => Buffers::Infer(Box::new(InferBuffers::new(&stem, &max_pool, &blocks))),
        };
        Self {
            layout,

            batch,
            height,
            width,
            images: batch,
            stem,
            max_pool,
            blocks,
            sums: ChannelSums::new(widest, threads),
            coefficients: [Coefficients::new(widest), Coefficients::new(widest)],
            workspace: Buffer::zeroed(workspace),
            buffers,
            pool,
        }
    }

    /// Images the plan can take at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Where parameters and running statistics lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        let buffers = match &self.buffers {
            Buffers::Train(train) => train.bytes(),
            Buffers::Infer(infer) => infer.bytes(),
        };
        size_of::<f32>() * self.workspace.len() + buffers
    }

    /// Every convolution with its shape, kernel and cost.
    pub fn describe(&self) -> Vec<Layer> {
        let shape = |s: MapShape| [s.batch, s.height, s.width, s.channels];
        let layer = |conv: &ConvSlot, input: [usize; 4], output: MapShape, algorithm: String, macs: usize| {
            let (name, gflop) = (conv.name.clone(), 2e-9 * macs as f64);
            Layer { name, input, output: shape(output), algorithm, gflop }
        };
        let images = [self.images, self.height, self.width, 3];
        let algorithm = match self.buffers {
            Buffers::Train(_) => "direct on split columns",
            Buffers::Infer(_) => "direct on interleaved rows, pooled",
        };
        let macs = self.stem.macs();
        let mut layers =
            vec![layer(&self.layout.stem.conv, images, self.stem.output(), algorithm.to_owned(), macs)];
        for block in &self.blocks {
            let BasicBlock { first, second, downsample, .. } = &block.layout;
            let (algorithm, macs) = block.first.describe();
            layers.push(layer(&first.conv, shape(block.input), block.output, algorithm, macs));
            let (algorithm, macs) = block.second.describe();
            layers.push(layer(&second.conv, shape(block.output), block.output, algorithm, macs));
            if let (Some(branch), Some(kernel)) = (downsample, &block.branch) {
                let (input, algorithm) = (shape(block.input), kernel.describe());
                layers.push(layer(&branch.conv, input, block.output, algorithm, kernel.macs()));
            }
        }
        layers
    }

    /// Sets the number of images of this call from the length of `images (B,3,H,W)`.
    pub(super) fn accept(&mut self, images: &[f32]) {
        let one = 3 * self.height * self.width;
        let n = images.len() / one;
        assert!(
            images.len().is_multiple_of(one) && (1..=self.batch).contains(&n),
            "images: expected 1 to {} of 3x{}x{}, found {} floats",
            self.batch,
            self.height,
            self.width,
            images.len()
        );
        if n != self.images {
            self.images = n;
            self.stem = self.stem.with_batch(n);
            self.max_pool = MaxPool::new(self.stem.output());
            for block in &mut self.blocks {
                block.set_batch(n);
            }
        }
    }
}
