//! 3x3 stride-1 pad-1 convolution by Winograd: F(4x4, 3x3) forward and input gradient, F(3x3, 4x4) weight gradient.
//!
//! Shapes: input `(B,H,W,C)`, output `(B,H,W,K)`, weights `(K,C,3,3)`; any `B`, `H`, `W` >= 1, `C` and `K`
//! multiples of 16. Tiles over the edge are padded. The blocking is a fixed rule of the shape and the thread
//! count ([`Conv3x3::describe`] tells it), so results are reproducible.
//! Error against exact arithmetic: 1.5e-6 to 3e-6 of the largest output (direct convolution: 1e-6 to 2e-6).
//!
//! Not here: other tile sizes (F(2x2) lost to padded F(4x4) on every map of ResNet-34, 7x7 included).

mod blocking;
mod filter;
mod forward;
mod gradient;
mod micro;
pub(crate) mod tiles;
mod transforms;

pub(crate) use filter::{load_taps, store_taps};
pub(crate) use micro::multiply_outer;

use blocking::{Blocking, GradientBlocking};
use filter::{FilterView, panel_len};

use crate::buffer::Buffer;
use crate::epilogue::{Epilogue, RawEpilogue};
use crate::shape::{MapShape, check_channels, check_len, product};
use crate::source::Source;
use crate::threads::ThreadPool;

/// A 3x3 stride-1 pad-1 convolution of one shape, on a fixed number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Conv3x3 {
    input: MapShape,
    output: MapShape,
    threads: usize,
    forward: Blocking,
    backward: Blocking,
    gradient: GradientBlocking,
}

/// The filters of a forward convolution.
#[derive(Clone, Copy)]
pub enum Filters<'a> {
    /// Weights `(K,C,3,3)`, transformed on the way, each output channel times its scale if given.
    Weights {
        /// OIHW.
        weights: &'a [f32],
        /// One factor an output channel: how an inference BatchNorm folds in.
        scale: Option<&'a [f32]>,
    },
    /// Filters transformed beforehand by [`Conv3x3::transform_filters`].
    Transformed(&'a [f32]),
}

impl Conv3x3 {
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
        product("conv3x3 filters", &[out_channels, input.channels + 1, transforms::XI]);
        let tiles = tiles::Tiling::new(input).tiles();
        Self {
            input,
            output,
            threads,
            forward: Blocking::choose(tiles, input.channels, out_channels, threads),
            backward: Blocking::choose(tiles, out_channels, input.channels, threads),
            gradient: GradientBlocking::choose(tiles, input.channels, out_channels),
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
        let forward = self.forward.workspace(self.input.channels, self.output.channels, self.threads);
        let backward = self.backward.workspace(self.output.channels, self.input.channels, self.threads);
        forward.max(backward)
    }

    /// Floats of workspace that [`Self::weight_gradient`] needs.
    pub fn gradient_workspace_len(&self) -> usize {
        self.gradient.workspace(self.input.channels, self.output.channels, self.threads)
    }

    /// Floats of transformed filters, if keeping them pays for inference: beyond 256 channels, transforming
    /// them on the way costs less than reading the four times larger result from memory.
    pub fn transformed_len(&self) -> Option<usize> {
        let (inner, outer) = (self.input.channels, self.output.channels);
        (inner * outer <= 256 * 256).then(|| outer / 16 * panel_len(inner))
    }

    /// Whether so few pixels are made that a direct product beats transforming the filters for them.
    ///
    /// Costs a pair of channels, in multiply-adds: 9 a pixel direct, 36 a tile by Winograd, and about 500 for
    /// transforming its filter (measured: 5 ms for 512x512 channels, at 40 G multiply-adds a second).
    pub fn direct_is_cheaper(&self) -> bool {
        let tiles = tiles::Tiling::new(self.input).tiles();
        let filters = if self.transformed_len().is_some() { 0 } else { 500 };
        9 * self.input.pixels() < 36 * tiles + filters
    }

    /// Transforms weights for [`Filters::Transformed`].
    pub fn transform_filters(
        &self,
        pool: &ThreadPool,
        weights: &[f32],
        scale: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let view = self.forward_view(weights, scale);
        let blocks = self.output.channels / 16;
        check_len("transformed filters", out, blocks * panel_len(self.input.channels));
        forward::transform_all(pool, view, blocks, self.input.channels, out);
    }

    /// `out = epilogue(conv(source, filters))`
    pub fn forward(
        &self,
        pool: &ThreadPool,
        source: Source<'_>,
        filters: Filters<'_>,
        out: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        let filters = match filters {
            Filters::Weights { weights, scale } => {
                forward::FilterSource::View(self.forward_view(weights, scale))
            }
            Filters::Transformed(panels) => {
                let expected = self.output.channels / 16 * panel_len(self.input.channels);
                check_len("transformed filters", panels, expected);
                forward::FilterSource::Panels(panels.as_ptr())
            }
        };
        let source = source.checked("conv3x3 input", self.input);
        let epilogue = RawEpilogue::checked(self.output, out, epilogue, pool.threads());
        forward::run(
            pool,
            &self.forward,
            self.input,
            self.output.channels,
            source,
            filters,
            epilogue,
            workspace,
        );
    }

    /// `grad_in = epilogue(conv(grad_out, rotated and transposed weights))`
    pub fn input_gradient(
        &self,
        pool: &ThreadPool,
        grad_out: Source<'_>,
        weights: &[f32],
        grad_in: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        check_len("conv3x3 weights", weights, self.output.channels * self.input.channels * 9);
        let view = FilterView {
            weights: weights.as_ptr(),
            lane_stride: 9,
            inner_stride: self.input.channels * 9,
            rotated: true,
            scale: std::ptr::null(),
        };
        let source = grad_out.checked("conv3x3 output gradient", self.output);
        let epilogue = RawEpilogue::checked(self.input, grad_in, epilogue, pool.threads());
        let filters = forward::FilterSource::View(view);
        forward::run(
            pool,
            &self.backward,
            self.output,
            self.input.channels,
            source,
            filters,
            epilogue,
            workspace,
        );
    }

    /// `grad_weights (K,C,3,3) = d loss / d weights`, overwritten.
    pub fn weight_gradient(
        &self,
        pool: &ThreadPool,
        source: Source<'_>,
        grad_out: Source<'_>,
        grad_weights: &mut [f32],
        workspace: &mut Buffer,
    ) {
        check_len("conv3x3 weight gradient", grad_weights, self.output.channels * self.input.channels * 9);
        let x = source.checked("conv3x3 input", self.input);
        let dy = grad_out.checked("conv3x3 output gradient", self.output);
        gradient::run(pool, &self.gradient, self.input, self.output.channels, x, dy, grad_weights, workspace);
    }

    fn forward_view(&self, weights: &[f32], scale: Option<&[f32]>) -> FilterView {
        check_len("conv3x3 weights", weights, self.output.channels * self.input.channels * 9);
        if let Some(scale) = scale {
            check_len("conv3x3 scale", scale, self.output.channels);
        }
        FilterView {
            weights: weights.as_ptr(),
            lane_stride: self.input.channels * 9,
            inner_stride: 9,
            rotated: false,
            scale: scale.map_or(std::ptr::null(), <[f32]>::as_ptr),
        }
    }
}
