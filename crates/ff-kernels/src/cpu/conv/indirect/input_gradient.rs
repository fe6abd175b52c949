//! The input gradient, one phase of pixels at a time: those of one parity of row and column see the same taps.

use super::geometry::IndirectConv;
use super::packing::{self, Layout};
use super::product::{self, Grid, Tap};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::fuse::store::Epilogue;
use crate::cpu::simd::Element;

/// A 1x1 convolution of the same stride whose input gradient is added: the branch beside a strided block.
#[derive(Clone, Copy)]
pub struct Branch<'a, E = f32> {
    /// Gradient of its output, the same shape as the main convolution's.
    pub grad_out: &'a [E],
    /// Its weights `(K,C,1,1)`.
    pub weights: &'a [f32],
}

impl<E: Element> IndirectConv<E> {
    /// `grad_in = epilogue(transposed conv(grad_out, weights) + that of the branch)`
    ///
    /// The epilogue may accumulate, but gathers its sums per call of an output pixel exactly once.
    pub fn input_gradient(
        &self,
        pool: &ThreadPool,
        grad_out: &[E],
        weights: &[f32],
        branch: Option<Branch<'_, E>>,
        grad_in: &mut [E],
        epilogue: Epilogue<'_, E>,
        workspace: &mut Buffer,
    ) {
        check_len("convolution weights", weights, self.packed_len());
        check_len("convolution output gradient", grad_out, self.output.len());
        let (inner, outer) = (self.input.channels, self.output.channels);
        let taps = self.taps() + usize::from(branch.is_some());
        let (packed, space) = self.workspace(workspace).split_at_mut(inner * outer * taps);
        let layout = Layout::transposed(inner, outer, self.taps());
        packing::pack(pool, weights, layout, None, taps, 0, packed);
        if let Some(branch) = branch {
            check_len("branch weights", branch.weights, inner * outer);
            check_len("branch output gradient", branch.grad_out, self.output.len());
            let layout = Layout::transposed(inner, outer, 1);
            packing::pack(pool, branch.weights, layout, None, taps, self.taps(), packed);
        }
        let epilogue = epilogue.checked(self.input, grad_in, pool.threads());
        // Input pixels of one parity of row and column see the same taps.
        let pad = self.kernel / 2;
        for phase in 0..self.stride * self.stride {
            let (py, px) = (phase / self.stride, phase % self.stride);
            let count = |n: usize, p: usize| (n + self.stride - 1 - p) / self.stride;
            let mut grid = Grid::new(count(self.input.height, py), count(self.input.width, px), 1);
            grid.place(self.stride, py, px);
            for tap in 0..self.taps() {
                let (r, s) = (tap / self.kernel, tap % self.kernel);
                let stride = self.stride as isize;
                let row = (py + pad) as isize - r as isize;
                let column = (px + pad) as isize - s as isize;
                if row.rem_euclid(stride) == 0 && column.rem_euclid(stride) == 0 {
                    let (row, column) = (row.div_euclid(stride), column.div_euclid(stride));
                    grid.push(Tap { weight: tap, row, column, source: grad_out.as_ptr() });
                }
            }
            if let (Some(branch), 0) = (branch, phase) {
                grid.push(Tap { weight: self.taps(), row: 0, column: 0, source: branch.grad_out.as_ptr() });
            }
            product::run(pool, &grid, self.output, self.input, packed, taps, space, epilogue);
        }
    }
}
