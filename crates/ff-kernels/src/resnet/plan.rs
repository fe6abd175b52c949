//! The plan: shapes, kernels and buffers of every layer, for up to `batch` images of one size.

use std::sync::Arc;

use super::layout::{BlockLayout, Config, Layout};
use crate::Source;
use crate::batchnorm::{Coefficients, Norm};
use crate::buffer::Buffer;
use crate::epilogue::Epilogue;
use crate::gemm::{ConvGemm, Stem};
use crate::pool::MaxPool;
use crate::shape::MapShape;
use crate::sums::ChannelSums;
use crate::threads::ThreadPool;
use crate::winograd::{Conv3x3, Filters};

/// What a plan keeps buffers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `forward_train` and `backward`.
    Train,
    /// `forward_eval`.
    Infer,
}

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

/// A backbone for up to `batch` images of `height` x `width`, ready to run.
pub struct Plan {
    pub(super) pool: Arc<ThreadPool>,
    pub(super) layout: Layout,
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Images of the last call, which the shapes below are for.
    pub(super) images: usize,
    pub(super) stem: Stem,
    pub(super) max_pool: MaxPool,
    pub(super) blocks: Vec<Block>,
    pub(super) sums: ChannelSums,
    pub(super) coefficients: [Coefficients; 2],
    pub(super) workspace: Buffer,
    pub(super) packed_images: Buffer,
    pub(super) argmax: Vec<u8>,
    pub(super) buffers: Buffers,
}

/// What differs between the modes.
pub(super) enum Buffers {
    Train(Box<TrainBuffers>),
    Infer(Box<InferBuffers>),
}

/// Everything the backward pass reads, and the gradients it passes on.
pub(super) struct TrainBuffers {
    pub(super) stem_raw: Buffer,
    pub(super) stem_norm: Norm,
    pub(super) pooled: Buffer,
    pub(super) blocks: Vec<TrainBlock>,
    /// Gradients: of a block's output, of its first BatchNorm's output, of its input.
    pub(super) grads: [Buffer; 3],
    /// Whether a forward pass has been made since the last backward pass.
    pub(super) ready: bool,
}

/// What one block keeps for its backward pass.
pub(super) struct TrainBlock {
    pub(super) raw1: Buffer,
    pub(super) norm1: Norm,
    pub(super) raw2: Buffer,
    pub(super) norm2: Norm,
    pub(super) branch: Option<(Buffer, Norm)>,
    pub(super) out: Buffer,
}

/// Activations in flight and folded weights.
pub(super) struct InferBuffers {
    pub(super) stem_out: Buffer,
    pub(super) maps: [Buffer; 3],
    pub(super) stem: Folded,
    pub(super) blocks: Vec<[Option<Folded>; 3]>,
    pub(super) fresh: bool,
}

/// A convolution with its BatchNorm folded in.
pub(super) struct Folded {
    pub(super) scale: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// Transformed or packed filters, where keeping them pays.
    pub(super) filters: Option<Buffer>,
}

/// The kernels of one block.
pub(super) struct Block {
    pub(super) layout: BlockLayout,
    pub(super) first: Conv,
    pub(super) second: Conv,
    pub(super) branch: Option<ConvGemm>,
    pub(super) input: MapShape,
    pub(super) output: MapShape,
}

/// A 3x3 convolution of a block.
#[derive(Clone, Copy)]
pub(super) enum Conv {
    Winograd(Conv3x3),
    Gemm(ConvGemm),
}

impl Conv {
    /// Winograd wherever it applies, save for inference on a handful of pixels.
    fn choose(input: MapShape, outputs: usize, stride: usize, threads: usize, mode: Mode) -> Self {
        if stride == 1 {
            let conv = Conv3x3::new(input, outputs, threads);
            if mode == Mode::Train || !conv.direct_is_cheaper() {
                return Self::Winograd(conv);
            }
        }
        Self::Gemm(ConvGemm::new(input, outputs, 3, stride, threads))
    }

    /// The same kernel for another number of images.
    fn with_batch(&self, batch: usize) -> Self {
        match self {
            Self::Winograd(conv) => Self::Winograd(conv.with_batch(batch)),
            Self::Gemm(conv) => Self::Gemm(conv.with_batch(batch)),
        }
    }

    fn output(&self) -> MapShape {
        match self {
            Self::Winograd(conv) => conv.output(),
            Self::Gemm(conv) => conv.output(),
        }
    }

    /// Floats of workspace: forward and input gradient, and weight gradient.
    fn workspace_len(&self) -> (usize, usize) {
        match self {
            Self::Winograd(conv) => (conv.workspace_len(), conv.gradient_workspace_len()),
            Self::Gemm(conv) => (conv.workspace_len(), conv.gradient_workspace_len()),
        }
    }

    /// Floats of filters prepared for inference, if that pays.
    fn prepared_len(&self) -> Option<usize> {
        match self {
            Self::Winograd(conv) => conv.transformed_len(),
            Self::Gemm(conv) => Some(conv.packed_len()),
        }
    }

    /// Prepares filters times `scale` for inference.
    pub(super) fn prepare(&self, pool: &ThreadPool, weights: &[f32], scale: &[f32], out: &mut [f32]) {
        match self {
            Self::Winograd(conv) => conv.transform_filters(pool, weights, Some(scale), out),
            Self::Gemm(conv) => conv.pack(pool, weights, Some(scale), out),
        }
    }

    /// Algorithm and multiply-adds.
    fn describe(&self) -> (String, usize) {
        match self {
            Self::Winograd(conv) => (conv.describe(), conv.macs()),
            Self::Gemm(conv) => (conv.describe(), conv.macs()),
        }
    }

    /// The Winograd convolution that every stride-1 convolution is in training.
    pub(super) fn winograd(&self) -> &Conv3x3 {
        match self {
            Self::Winograd(conv) => conv,
            Self::Gemm(_) => unreachable!("a training plan chooses Winograd for stride 1"),
        }
    }

    /// `out = epilogue(conv(x))`
    pub(super) fn forward(
        &self,
        pool: &ThreadPool,
        x: &[f32],
        filters: Filters<'_>,
        out: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        match (self, filters) {
            (Self::Winograd(conv), _) => {
                conv.forward(pool, Source::Plain(x), filters, out, epilogue, workspace)
            }
            (Self::Gemm(conv), Filters::Transformed(packed)) => {
                conv.forward_packed(pool, x, packed, out, epilogue, workspace);
            }
            (Self::Gemm(conv), Filters::Weights { weights, .. }) => {
                conv.forward(pool, x, weights, out, epilogue, workspace);
            }
        }
    }
}

impl Block {
    fn new(layout: &BlockLayout, input: MapShape, threads: usize, mode: Mode) -> Self {
        let first = Conv::choose(input, layout.outputs, layout.stride, threads, mode);
        let output = first.output();
        let branch = layout
            .downsample
            .is_some()
            .then(|| ConvGemm::new(input, layout.outputs, 1, layout.stride, threads));
        let second = Conv::choose(output, layout.outputs, 1, threads, mode);
        Self { layout: layout.clone(), first, second, branch, input, output }
    }

    fn set_batch(&mut self, batch: usize) {
        self.first = self.first.with_batch(batch);
        self.second = self.second.with_batch(batch);
        self.branch = self.branch.map(|conv| conv.with_batch(batch));
        self.input = self.input.with_batch(batch);
        self.output = self.output.with_batch(batch);
    }

    fn workspace_len(&self, mode: Mode) -> usize {
        let branch = self.branch.map_or((0, 0), |conv| (conv.workspace_len(), conv.gradient_workspace_len()));
        let all = [self.first.workspace_len(), self.second.workspace_len(), branch];
        let needed = |(forward, gradient): (usize, usize)| match mode {
            Mode::Infer => forward,
            Mode::Train => forward.max(gradient),
        };
        all.into_iter().map(needed).fold(0, usize::max)
    }
}

impl Plan {
    /// A plan for up to `batch` images of `height` x `width` (at least 32 each).
    pub fn new(
        config: &Config,
        batch: usize,
        height: usize,
        width: usize,
        pool: Arc<ThreadPool>,
        mode: Mode,
    ) -> Self {
        assert!(batch >= 1, "a plan needs at least one image");
        assert!(height >= 32 && width >= 32, "expected images of at least 32x32, found {height}x{width}");
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
        let workspace = workspace.max(stem.workspace_len()).max(pool_row);
        for block in &mut blocks {
            block.set_batch(batch);
        }
        let buffers = match mode {
            Mode::Train => Buffers::Train(Box::new(TrainBuffers::new(&stem, &max_pool, &blocks))),
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
            packed_images: Buffer::zeroed(stem.packed_len()),
            argmax: vec![0; max_pool.output().len()],
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
            Buffers::Train(train) => train.len(),
            Buffers::Infer(infer) => infer.len(),
        };
        4 * (self.workspace.len() + self.packed_images.len() + buffers) + self.argmax.len()
    }

    /// Every convolution with its shape, kernel and cost.
    pub fn describe(&self) -> Vec<Layer> {
        let shape = |s: MapShape| [s.batch, s.height, s.width, s.channels];
        let layer = |name: String, input: [usize; 4], output: MapShape, algorithm: String, macs: usize| {
            Layer { name, input, output: shape(output), algorithm, gflop: 2e-9 * macs as f64 }
        };
        let images = [self.images, self.height, self.width, 3];
        let mut layers = vec![layer(
            "conv1".to_owned(),
            images,
            self.stem.output(),
            "direct on split columns".to_owned(),
            self.stem.macs(),
        )];
        for block in &self.blocks {
            let name = |part: &str| format!("{}.{part}", block.layout.name);
            let (algorithm, macs) = block.first.describe();
            layers.push(layer(name("conv1"), shape(block.input), block.output, algorithm, macs));
            let (algorithm, macs) = block.second.describe();
            layers.push(layer(name("conv2"), shape(block.output), block.output, algorithm, macs));
            if let Some(conv) = &block.branch {
                let (input, name) = (shape(block.input), name("downsample.0"));
                layers.push(layer(name, input, block.output, conv.describe(), conv.macs()));
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

impl TrainBuffers {
    fn new(stem: &Stem, max_pool: &MaxPool, blocks: &[Block]) -> Self {
        let buffer = |shape: MapShape| Buffer::zeroed(shape.len());
        let norm = |shape: MapShape| Norm::new(shape.channels);
        let largest = blocks.iter().map(|b| b.output.len()).fold(max_pool.output().len(), usize::max);
        Self {
            stem_raw: buffer(stem.output()),
            stem_norm: norm(stem.output()),
            pooled: buffer(max_pool.output()),
            blocks: blocks
                .iter()
                .map(|block| TrainBlock {
                    raw1: buffer(block.output),
                    norm1: norm(block.output),
                    raw2: buffer(block.output),
                    norm2: norm(block.output),
                    branch: block.branch.map(|_| (buffer(block.output), norm(block.output))),
                    out: buffer(block.output),
                })
                .collect(),
            grads: std::array::from_fn(|_| Buffer::zeroed(largest)),
            ready: false,
        }
    }

    fn len(&self) -> usize {
        let block = |b: &TrainBlock| {
            b.raw1.len() + b.raw2.len() + b.out.len() + b.branch.as_ref().map_or(0, |(raw, _)| raw.len())
        };
        self.stem_raw.len()
            + self.pooled.len()
            + self.blocks.iter().map(block).sum::<usize>()
            + self.grads.iter().map(|grad| grad.len()).sum::<usize>()
    }
}

impl InferBuffers {
    fn new(stem: &Stem, max_pool: &MaxPool, blocks: &[Block]) -> Self {
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
                [
                    Some(folded(channels, block.first.prepared_len())),
                    Some(folded(channels, block.second.prepared_len())),
                    block.branch.map(|conv| folded(channels, Some(conv.packed_len()))),
                ]
            })
            .collect();
        Self {
            stem_out: Buffer::zeroed(stem.output().len()),
            maps: std::array::from_fn(|_| Buffer::zeroed(largest)),
            stem: folded(stem.output().channels, None),
            blocks,
            fresh: false,
        }
    }

    fn len(&self) -> usize {
        let filters: usize = self
            .blocks
            .iter()
            .flatten()
            .flatten()
            .map(|folded| folded.filters.as_ref().map_or(0, |filters| filters.len()))
            .sum();
        self.stem_out.len() + self.maps.iter().map(|map| map.len()).sum::<usize>() + filters
    }
}
