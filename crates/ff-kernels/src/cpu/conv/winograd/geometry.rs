//! The convolution of one shape: its blockings, and the lengths of what it works in.

use std::marker::PhantomData;

use super::blocking::{Blocking, GradientBlocking};
use super::filter::panel_len;
use super::tiling::{Tiling, XI};
use crate::cpu::base::shape::{MapShape, check_channels, product};
use crate::cpu::simd::Element;

/// A 3x3 stride-1 pad-1 convolution of maps of `E` of one shape, on a fixed number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Conv3x3<E = f32> {
    pub(super) input: MapShape,
    pub(super) output: MapShape,
    threads: usize,
    pub(super) forward: Blocking,
    pub(super) backward: Blocking,
    pub(super) gradient: GradientBlocking,
    element: PhantomData<E>,
}

impl<E: Element> Conv3x3<E> {
    /// A convolution of `input` to `out_channels` channels on `threads` threads.
    ///
    /// # Panics
    /// Channels that are no multiple of 16; a size that there is no convolution of.
    pub fn new(input: MapShape, out_channels: usize, threads: usize) -> Self {
        check_channels("conv3x3 input", input.channels);
        check_channels("conv3x3 output", out_channels);
        assert!(!input.is_empty(), "conv3x3 needs at least one pixel, found {input:?}");
        let output = MapShape { channels: out_channels, ..input };
        // Neither the output nor the transformed filters, larger than the weights, may wrap.
        output.len();
        product("conv3x3 filters", &[out_channels, input.channels + 1, XI]);
        Self {
            input,
            output,
            threads,
            forward: Blocking::choose::<E>(input, out_channels, threads),
            backward: Blocking::choose::<E>(output, input.channels, threads),
            gradient: GradientBlocking::choose(input, out_channels),
            element: PhantomData,
        }
    }

    /// The same convolution for another number of images.
    pub fn with_batch(&self, batch: usize) -> Self {
        Self::new(self.input.with_batch(batch), self.output.channels, self.threads)
    }

    /// Shape of the output.
    pub fn output(&self) -> MapShape {
        self.output
    }

    /// Multiply-adds of the direct convolution.
    pub fn macs(&self) -> usize {
        self.output.len() * self.input.channels * 9
    }

    /// The algorithm in a few words.
    pub fn describe(&self) -> String {
        format!("winograd F(4x4,3x3), {}", self.forward)
    }

    /// Floats of workspace that [`Self::forward`] and [`Self::input_gradient`] need.
    pub fn workspace_len(&self) -> usize {
        let forward = self.forward.workspace::<E>(self.input.channels, self.output.channels, self.threads);
        let backward = self.backward.workspace::<E>(self.output.channels, self.input.channels, self.threads);
        forward.max(backward)
    }

    /// Floats of workspace that [`Self::weight_gradient`] needs.
    pub fn gradient_workspace_len(&self) -> usize {
        self.gradient.workspace::<E>(self.input.channels, self.output.channels, self.threads)
    }

    /// Elements of transformed filters, if keeping them pays for inference: beyond 256 channels, transforming f32 ones
    /// on the way costs less than reading the four times larger result from memory.
    pub fn transformed_len(&self) -> Option<usize> {
        let (inner, outer) = (self.input.channels, self.output.channels);
        (E::BF16 || inner * outer <= 256 * 256).then(|| outer / 16 * panel_len::<E>(inner))
    }

    /// Whether so few pixels are made that a direct product beats transforming the filters for them, or reading those
    /// that were transformed.
    ///
    /// Costs a pair of channels, in multiply-adds: 9 a pixel direct, a tile's 16 to 36 by Winograd, and about 500 for
    /// transforming its filter (measured: 5 ms for 512x512 channels, at 40 G multiply-adds a second), or in bfloat16
    /// for 27 values more from memory (54 bytes at 40 GB a second, in which 400 G multiply-adds a second make 540).
    pub fn direct_is_cheaper(&self) -> bool {
        let products = Tiling::new(self.input).products();
        let filters = if self.transformed_len().is_some() && !E::BF16 { 0 } else { 500 };
        9 * self.input.pixels() < products + filters
    }
}
