//! The forward convolution, with weights as they come or packed beforehand.

use super::geometry::IndirectConv;
use super::packing::{self, Layout};
use super::product::{self, Grid, Tap};
use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::check_len;
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::fuse::store::Epilogue;
use crate::cpu::simd::{Element, elements};

impl<E: Element> IndirectConv<E> {
    /// Packs weights for [`Self::forward_packed`], each output channel times its scale if given.
    pub fn pack(&self, pool: &ThreadPool, weights: &[f32], scale: Option<&[f32]>, out: &mut [E]) {
        check_len("convolution weights", weights, self.packed_len());
        check_len("packed weights", out, self.packed_len());
        if let Some(scale) = scale {
            check_len("convolution scale", scale, self.output.channels);
        }
        let layout = Layout::forward(self.input.channels, self.output.channels, self.taps());
        packing::pack(pool, weights, layout, scale, self.taps(), 0, out);
    }

    /// `out = epilogue(conv(x, weights))`
    pub fn forward(
        &self,
        pool: &ThreadPool,
        x: &[E],
        weights: &[f32],
        out: &mut [E],
        epilogue: Epilogue<'_, E>,
        workspace: &mut Buffer,
    ) {
        let (packed, space) = self.workspace(workspace).split_at_mut(self.packed_len());
        self.pack(pool, weights, None, packed);
        self.run_forward(pool, x, packed, out, epilogue, space);
    }

    /// `out = epilogue(conv(x, weights))`, the weights packed beforehand by [`Self::pack`].
    pub fn forward_packed(
        &self,
        pool: &ThreadPool,
        x: &[E],
        packed: &[E],
        out: &mut [E],
        epilogue: Epilogue<'_, E>,
        workspace: &mut Buffer,
    ) {
        check_len("packed weights", packed, self.packed_len());
        self.run_forward(pool, x, packed, out, epilogue, self.workspace(workspace));
    }

    /// The workspace as elements.
    #[track_caller]
    pub(super) fn workspace<'a>(&self, workspace: &'a mut Buffer) -> &'a mut [E] {
        let needed = self.workspace_len();
        assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
        elements(workspace)
    }

    fn run_forward(
        &self,
        pool: &ThreadPool,
        x: &[E],
        packed: &[E],
        out: &mut [E],
        epilogue: Epilogue<'_, E>,
        space: &mut [E],
    ) {
        check_len("convolution input", x, self.input.len());
        let epilogue = epilogue.checked(self.output, out, pool.threads());
        let pad = (self.kernel / 2) as isize;
        let mut grid = Grid::new(self.output.height, self.output.width, self.stride);
        for tap in 0..self.taps() {
            let (r, s) = ((tap / self.kernel) as isize, (tap % self.kernel) as isize);
            grid.push(Tap { weight: tap, row: r - pad, column: s - pad, source: x.as_ptr() });
        }
        product::run(pool, &grid, self.input, self.output, packed, self.taps(), space, epilogue);
    }
}
