//! The input gradient: the forward convolution of the output's gradient with filters rotated and transposed.

use super::filter::FilterView;
use super::geometry::Conv3x3;
use super::product::{self, FilterSource};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::fuse::load::FusedLoad;
use crate::cpu::fuse::store::Epilogue;
use crate::cpu::simd::Element;

impl<E: Element> Conv3x3<E> {
    /// `grad_in = epilogue(conv(grad_out, rotated and transposed weights))`
    pub fn input_gradient(
        &self,
        pool: &ThreadPool,
        grad_out: FusedLoad<'_, E>,
        weights: &[f32],
        grad_in: &mut [E],
        epilogue: Epilogue<'_, E>,
        workspace: &mut Buffer,
    ) {
        check_len("conv3x3 weights", weights, self.output.channels * self.input.channels * 9);
        let view = FilterView {
            weights: weights.as_ptr(),
            lane_stride: 9,
            inner_stride: self.input.channels * 9,
            rotated: true,
            scale: None,
        };
        let source = grad_out.checked("conv3x3 output gradient", self.output);
        let epilogue = epilogue.checked(self.input, grad_in, pool.threads());
        let filters = FilterSource::View(view);
        product::run(
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
}
