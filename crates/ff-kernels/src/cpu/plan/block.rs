//! The kernels of one basic block: its two 3x3 convolutions and the 1x1 branch, and which algorithm each uses.

use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::MapShape;
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::conv::indirect::IndirectConv;
use crate::cpu::conv::winograd::{Conv3x3, Filters};
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::store::Epilogue;
use crate::cpu::simd::Element;
use crate::network::{BasicBlock, Mode};

/// The kernels of one block.
pub(super) struct Block<E> {
    pub(super) layout: BasicBlock,
    pub(super) first: Conv<E>,
    pub(super) second: Conv<E>,
    pub(super) branch: Option<IndirectConv<E>>,
    pub(super) input: MapShape,
    pub(super) output: MapShape,
}

/// A 3x3 convolution of a block.
#[derive(Clone, Copy)]
pub(super) enum Conv<E> {
    Winograd(Conv3x3<E>),
    Indirect(IndirectConv<E>),
}

/// Floats that a convolution works in.
struct Workspace {
    /// Forward and for the input gradient.
    both_ways: usize,
    weight_gradient: usize,
}

impl Workspace {
    fn of<E: Element>(conv: &IndirectConv<E>) -> Self {
        Self { both_ways: conv.workspace_len(), weight_gradient: conv.gradient_workspace_len() }
    }
}

impl<E: Element> Conv<E> {
    /// Winograd wherever it applies, save for inference on a handful of pixels.
    fn choose(input: MapShape, outputs: usize, stride: usize, threads: usize, mode: Mode) -> Self {
        if stride == 1 {
            let conv = Conv3x3::new(input, outputs, threads);
            if mode == Mode::Train || !conv.direct_is_cheaper() {
                return Self::Winograd(conv);
            }
        }
        Self::Indirect(IndirectConv::new(input, outputs, 3, stride, threads))
    }

    /// The same kernel for another number of images.
    fn with_batch(&self, batch: usize) -> Self {
        match self {
            Self::Winograd(conv) => Self::Winograd(conv.with_batch(batch)),
            Self::Indirect(conv) => Self::Indirect(conv.with_batch(batch)),
        }
    }

    fn output(&self) -> MapShape {
        match self {
            Self::Winograd(conv) => conv.output(),
            Self::Indirect(conv) => conv.output(),
        }
    }

    fn workspace_len(&self) -> Workspace {
        match self {
            Self::Winograd(conv) => {
                Workspace { both_ways: conv.workspace_len(), weight_gradient: conv.gradient_workspace_len() }
            }
            Self::Indirect(conv) => Workspace::of(conv),
        }
    }

    /// Elements of filters prepared for inference, if that pays.
    pub(super) fn prepared_len(&self) -> Option<usize> {
        match self {
            Self::Winograd(conv) => conv.transformed_len(),
            Self::Indirect(conv) => Some(conv.packed_len()),
        }
    }

    /// Prepares filters times `scale` for inference.
    pub(super) fn prepare(&self, pool: &ThreadPool, weights: &[f32], scale: &[f32], out: &mut [E]) {
        match self {
            Self::Winograd(conv) => conv.transform_filters(pool, weights, Some(scale), out),
            Self::Indirect(conv) => conv.pack(pool, weights, Some(scale), out),
        }
    }

    /// Algorithm and multiply-adds.
    pub(super) fn describe(&self) -> (String, usize) {
        match self {
            Self::Winograd(conv) => (conv.describe(), conv.macs()),
            Self::Indirect(conv) => (conv.describe(), conv.macs()),
        }
    }

    /// The Winograd convolution that every stride-1 convolution is in training.
    pub(super) fn winograd(&self) -> &Conv3x3<E> {
        match self {
            Self::Winograd(conv) => conv,
            Self::Indirect(_) => unreachable!("a training plan chooses Winograd for stride 1"),
        }
    }

    /// `out = epilogue(conv(x))`
    pub(super) fn forward(
        &self,
        pool: &ThreadPool,
        x: &[E],
        filters: Filters<'_, E>,
        out: &mut [E],
        epilogue: Epilogue<'_, E>,
        workspace: &mut Buffer,
    ) {
        match (self, filters) {
            (Self::Winograd(conv), _) => {
                conv.forward(pool, FusedLoad::Plain(x), filters, out, epilogue, workspace)
            }
            (Self::Indirect(conv), Filters::Transformed(packed)) => {
                conv.forward_packed(pool, x, packed, out, epilogue, workspace);
            }
            (Self::Indirect(conv), Filters::Weights { weights, .. }) => {
                conv.forward(pool, x, weights, out, epilogue, workspace);
            }
        }
    }
}

impl<E: Element> Block<E> {
    pub(super) fn new(layout: &BasicBlock, input: MapShape, threads: usize, mode: Mode) -> Self {
        let first = Conv::choose(input, layout.outputs(), layout.stride(), threads, mode);
        let output = first.output();
        let branch = layout
            .downsample
            .is_some()
            .then(|| IndirectConv::new(input, layout.outputs(), 1, layout.stride(), threads));
        let second = Conv::choose(output, layout.outputs(), 1, threads, mode);
        Self { layout: layout.clone(), first, second, branch, input, output }
    }

    pub(super) fn set_batch(&mut self, batch: usize) {
        self.first = self.first.with_batch(batch);
        self.second = self.second.with_batch(batch);
        self.branch = self.branch.map(|conv| conv.with_batch(batch));
        self.input = self.input.with_batch(batch);
        self.output = self.output.with_batch(batch);
    }

    pub(super) fn workspace_len(&self, mode: Mode) -> usize {
        let both = [self.first.workspace_len(), self.second.workspace_len()];
        let all = both.into_iter().chain(self.branch.as_ref().map(Workspace::of));
        let needed = |space: Workspace| match mode {
            Mode::Infer => space.both_ways,
            Mode::Train => space.both_ways.max(space.weight_gradient),
        };
        all.map(needed).fold(0, usize::max)
    }
}
