//! The forward convolution, with filters as they come or transformed beforehand.

use super::filter::{FilterView, panel_len};
use super::geometry::Conv3x3;
use super::product::{self, FilterSource};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::store::Epilogue;
use crate::cpu::simd::Element;

/// The filters of a forward convolution.
#[derive(Clone, Copy)]
pub enum Filters<'a, E = f32> {
    /// Weights `(K,C,3,3)`, transformed on the way, each output channel times its scale if given.
    Weights {
        /// OIHW.
        weights: &'a [f32],
        /// One factor an output channel: how an inference BatchNorm folds in.
        scale: Option<&'a [f32]>,
    },
    /// Filters transformed beforehand by [`Conv3x3::transform_filters`].
    Transformed(&'a [E]),
}

impl<E: Element> Conv3x3<E> {
    /// Transforms weights for [`Filters::Transformed`].
    pub fn transform_filters(
        &self,
        pool: &ThreadPool,
        weights: &[f32],
        scale: Option<&[f32]>,
        out: &mut [E],
    ) {
        let view = self.forward_view(weights, scale);
        let blocks = self.output.channels / 16;
        check_len("transformed filters", out, blocks * panel_len::<E>(self.input.channels));
        product::transform_all(pool, view, blocks, self.input.channels, out);
    }

    /// `out = epilogue(conv(source, filters))`
    pub fn forward(
        &self,
        pool: &ThreadPool,
        source: FusedLoad<'_, E>,
        filters: Filters<'_, E>,
        out: &mut [E],
        epilogue: Epilogue<'_, E>,
        workspace: &mut Buffer,
    ) {
        let filters = match filters {
            Filters::Weights { weights, scale } => FilterSource::View(self.forward_view(weights, scale)),
            Filters::Transformed(panels) => {
                let expected = self.output.channels / 16 * panel_len::<E>(self.input.channels);
                check_len("transformed filters", panels, expected);
                FilterSource::Panels(panels.as_ptr())
            }
        };
        let source = source.checked("conv3x3 input", self.input);
        let epilogue = epilogue.checked(self.output, out, pool.threads());
        product::run(
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
            scale: scale.map(<[f32]>::as_ptr),
        }
    }
}
