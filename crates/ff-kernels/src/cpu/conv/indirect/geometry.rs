//! The convolution of one shape, and the lengths of what it works in.

use std::marker::PhantomData;

use super::product::PIXELS;
use crate::cpu::base::shape::{MapShape, check_channels, product};
use crate::cpu::simd::Element;

/// A convolution of maps of `E` with a 1x1 or 3x3 kernel, stride 1 or 2 and padding of half the kernel.
#[derive(Clone, Copy, Debug)]
pub struct IndirectConv<E = f32> {
    pub(super) input: MapShape,
    pub(super) output: MapShape,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) threads: usize,
    element: PhantomData<E>,
}

impl<E: Element> IndirectConv<E> {
    /// A convolution of `input` to `out_channels` channels on `threads` threads.
    ///
    /// # Panics
    /// Channels that are no multiple of 16; a kernel, stride or size that there is no convolution of.
    pub fn new(input: MapShape, out_channels: usize, kernel: usize, stride: usize, threads: usize) -> Self {
        check_channels("convolution input", input.channels);
        check_channels("convolution output", out_channels);
        assert!(kernel == 1 || kernel == 3, "expected a kernel of 1 or 3, found {kernel}");
        assert!(stride == 1 || stride == 2, "expected a stride of 1 or 2, found {stride}");
        assert!(!input.is_empty(), "a convolution needs at least one pixel, found {input:?}");
        let out = |n: usize| (n - 1) / stride + 1;
        let output = MapShape {
            batch: input.batch,
            height: out(input.height),
            width: out(input.width),
            channels: out_channels,
        };
        // Neither the output nor the weights, with the taps of a branch, may wrap.
        output.len();
        product("convolution weights", &[out_channels, input.channels, kernel * kernel + 1]);
        Self { input, output, kernel, stride, threads, element: PhantomData }
    }

    /// The same convolution for another number of images.
    pub fn with_batch(&self, batch: usize) -> Self {
        Self::new(self.input.with_batch(batch), self.output.channels, self.kernel, self.stride, self.threads)
    }

    /// Shape of the output.
    pub fn output(&self) -> MapShape {
        self.output
    }

    /// Multiply-adds.
    pub fn macs(&self) -> usize {
        self.output.len() * self.input.channels * self.taps()
    }

    /// The algorithm in a few words.
    pub fn describe(&self) -> String {
        "packed GEMM".to_owned()
    }

    /// Elements of packed weights for [`Self::forward_packed`].
    pub fn packed_len(&self) -> usize {
        self.output.channels * self.input.channels * self.taps()
    }

    /// Floats of workspace that the forward pass and the input gradient need.
    pub fn workspace_len(&self) -> usize {
        let (inner, outer) = (self.input.channels, self.output.channels);
        let pixels = self.threads * PIXELS * inner.max(outer) * (self.taps() + 1);
        (inner * outer * (self.taps() + 1) + pixels) * size_of::<E>() / size_of::<f32>()
    }

    /// Taps of a filter.
    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}
