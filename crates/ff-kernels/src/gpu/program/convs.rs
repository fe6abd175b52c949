//! The convolutions of a backbone for one batch of images, and the table that packing goes by.

use std::ops::Range;

use super::batch::CHANNELS;
use super::command::Geometry;
use crate::cpu::base::shape::MapShape;
use crate::network::{ConvNorm, Layout, max_pool_size};

/// A convolution with the BatchNorm behind it: its shapes, and its entry in the table that packing goes by.
#[derive(Clone, Debug)]
pub(in crate::gpu) struct Conv {
    pub(in crate::gpu) geometry: Geometry,
    pub(in crate::gpu) layer: ConvNorm,
    /// First element of the packed filters.
    pub(in crate::gpu) packed: usize,
    /// First element of the folded biases.
    pub(in crate::gpu) bias: usize,
}

impl Conv {
    /// Its weights in the flat vector.
    pub(in crate::gpu) fn range(&self) -> Range<usize> {
        self.layer.conv.range()
    }

    /// `3x3/2 16->48`
    pub(in crate::gpu) fn label(&self) -> String {
        let Geometry { kernel, stride, inputs, outputs, .. } = self.geometry;
        format!("{kernel}x{kernel}/{stride} {inputs}->{outputs}")
    }

    pub(in crate::gpu) fn input(&self) -> MapShape {
        let Geometry { batch, height, width, inputs, .. } = self.geometry;
        MapShape { batch, height, width, channels: inputs }
    }

    pub(in crate::gpu) fn output(&self) -> MapShape {
        let (height, width) = self.geometry.output();
        MapShape { batch: self.geometry.batch, height, width, channels: self.geometry.outputs }
    }
}

/// The convolutions of one residual block.
#[derive(Clone, Debug)]
pub(in crate::gpu) struct BlockConvs {
    pub(in crate::gpu) first: Conv,
    pub(in crate::gpu) second: Conv,
    pub(in crate::gpu) downsample: Option<Conv>,
}

/// All convolutions of a backbone.
#[derive(Debug)]
pub(in crate::gpu) struct Convs {
    pub(in crate::gpu) stem: Conv,
    pub(in crate::gpu) blocks: Vec<BlockConvs>,
    pub(in crate::gpu) packed_len: usize,
    pub(in crate::gpu) bias_len: usize,
}

impl Convs {
    /// For images (`batch`, `height`, `width`, [`CHANNELS`]).
    pub(in crate::gpu) fn new(layout: &Layout, batch: usize, height: usize, width: usize) -> Self {
        let (mut packed_len, mut bias_len) = (0, 0);
        let mut conv = |layer: &ConvNorm, input: MapShape| {
            let slot = &layer.conv;
            let geometry = Geometry {
                batch,
                height: input.height,
                width: input.width,
                inputs: input.channels,
                outputs: slot.outputs,
                kernel: slot.kernel,
                stride: slot.stride,
                padding: slot.padding(),
            };
            let conv = Conv { geometry, layer: layer.clone(), packed: packed_len, bias: bias_len };
            packed_len += geometry.w_len();
            bias_len += geometry.outputs;
            conv
        };
        let stem = conv(&layout.stem, MapShape { batch, height, width, channels: CHANNELS });
        let mut shape = pooled(stem.output());
        let mut blocks = Vec::new();
        for block in &layout.blocks {
            let first = conv(&block.first, shape);
            let second = conv(&block.second, first.output());
            let downsample = block.downsample.as_ref().map(|layer| conv(layer, shape));
            shape = second.output();
            blocks.push(BlockConvs { first, second, downsample });
        }
        Self { stem, blocks, packed_len, bias_len }
    }

    pub(in crate::gpu) fn all(&self) -> impl Iterator<Item = &Conv> {
        let blocks = self.blocks.iter();
        let of_blocks = blocks.flat_map(|b| [&b.first, &b.second].into_iter().chain(&b.downsample));
        std::iter::once(&self.stem).chain(of_blocks)
    }

    /// Shape of the map that is averaged.
    pub(in crate::gpu) fn output(&self) -> MapShape {
        self.blocks.last().map_or(pooled(self.stem.output()), |block| block.second.output())
    }

    /// The table that packing goes by: `Filter` of filters.cuh, one a convolution.
    pub(in crate::gpu) fn table(&self) -> Vec<u8> {
        let entry = |conv: &Conv| {
            let ConvNorm { conv: slot, norm } = &conv.layer;
            [
                slot.offset,
                conv.packed,
                slot.outputs,
                slot.inputs,
                conv.geometry.inputs,
                slot.kernel * slot.kernel,
                norm.offset,
                norm.running,
                conv.bias,
            ]
        };
        self.all().flat_map(entry).flat_map(|value| (value as u32).to_le_bytes()).collect()
    }
}

/// Shape behind the max-pool.
pub(in crate::gpu) fn pooled(input: MapShape) -> MapShape {
    MapShape { height: max_pool_size(input.height), width: max_pool_size(input.width), ..input }
}
