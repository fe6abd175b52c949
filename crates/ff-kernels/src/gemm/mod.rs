//! Convolutions that Winograd does not serve, as implicit matrix products: strided 3x3 and 1x1, and the 7x7 stem.
//!
//! Shapes: input `(B,H,W,C)`, output `(B,OH,OW,K)`, weights `(K,C,R,R)` with `R` 1 or 3, padding `R/2`.
//! No im2col matrix is made: the micro-kernel reads six pixels through pointers (the indirect convolution
//! algorithm, Dukhan 2019), where a pixel outside the map points at a row of zeros.

mod forward;
mod gradient;
mod stem;
mod stem_gradient;
mod weights;

pub use stem::{Stem, StemGradient};

use forward::{Grid, Tap};

use crate::buffer::Buffer;
use crate::epilogue::{Epilogue, RawEpilogue};
use crate::shape::{MapShape, check_channels, check_len, product};
use crate::source::Source;
use crate::threads::ThreadPool;

/// Taps of the largest kernel, and one for a second source.
pub(crate) const MAX_TAPS: usize = 10;

/// A convolution with a 1x1 or 3x3 kernel, stride 1 or 2 and padding of half the kernel.
#[derive(Clone, Copy, Debug)]
pub struct ConvGemm {
    input: MapShape,
    output: MapShape,
    kernel: usize,
    stride: usize,
    threads: usize,
}

/// A 1x1 convolution of the same stride whose input gradient is added: the branch beside a strided block.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    /// Gradient of its output, the same shape as the main convolution's.
    pub grad_out: &'a [f32],
    /// Its weights `(K,C,1,1)`.
    pub weights: &'a [f32],
}

impl ConvGemm {
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
        Self { input, output, kernel, stride, threads }
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
        "indirect GEMM".to_owned()
    }

    /// Floats of packed weights for [`Self::forward_packed`].
    pub fn packed_len(&self) -> usize {
        self.output.channels * self.input.channels * self.taps()
    }

    /// Floats of workspace that the forward pass and the input gradient need.
    pub fn workspace_len(&self) -> usize {
        let (inner, outer) = (self.input.channels, self.output.channels);
        inner.max(outer) + inner * outer * (self.taps() + 1)
    }

    /// Floats of workspace that [`Self::weight_gradient`] needs.
    pub fn gradient_workspace_len(&self) -> usize {
        gradient::workspace(self.input, self.output, self.taps(), self.threads)
    }

    /// Packs weights for [`Self::forward_packed`], each output channel times its scale if given.
    pub fn pack(&self, pool: &ThreadPool, weights: &[f32], scale: Option<&[f32]>, out: &mut [f32]) {
        check_len("convolution weights", weights, self.packed_len());
        check_len("packed weights", out, self.packed_len());
        if let Some(scale) = scale {
            check_len("convolution scale", scale, self.output.channels);
        }
        let layout = weights::Layout::forward(self.input.channels, self.output.channels, self.taps());
        weights::pack(pool, weights, layout, scale, self.taps(), 0, out);
    }

    /// `out = epilogue(conv(x, weights))`
    pub fn forward(
        &self,
        pool: &ThreadPool,
        x: &[f32],
        weights: &[f32],
        out: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        let needed = self.workspace_len();
        assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
        let (packed, zeros) = workspace.split_at_mut(self.packed_len());
        self.pack(pool, weights, None, packed);
        self.run_forward(pool, x, packed, out, epilogue, &mut zeros[..self.input.channels]);
    }

    /// `out = epilogue(conv(x, weights))`, the weights packed beforehand by [`Self::pack`].
    pub fn forward_packed(
        &self,
        pool: &ThreadPool,
        x: &[f32],
        packed: &[f32],
        out: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        check_len("packed weights", packed, self.packed_len());
        self.run_forward(pool, x, packed, out, epilogue, &mut workspace[..self.input.channels]);
    }

    fn run_forward(
        &self,
        pool: &ThreadPool,
        x: &[f32],
        packed: &[f32],
        out: &mut [f32],
        epilogue: Epilogue<'_>,
        zeros: &mut [f32],
    ) {
        check_len("convolution input", x, self.input.len());
        zeros.fill(0.0);
        let epilogue = RawEpilogue::checked(self.output, out, epilogue, pool.threads());
        let pad = (self.kernel / 2) as isize;
        let mut grid = Grid::new(self.output.height, self.output.width, self.stride);
        for tap in 0..self.taps() {
            let (r, s) = ((tap / self.kernel) as isize, (tap % self.kernel) as isize);
            grid.push(Tap { weight: tap, row: r - pad, column: s - pad, source: x.as_ptr() });
        }
        forward::run(pool, &grid, self.input, self.output, packed, self.taps(), zeros, epilogue);
    }

    /// `grad_in = epilogue(transposed conv(grad_out, weights) + that of the branch)`
    ///
    /// The epilogue may accumulate, but gathers its sums per call of an output pixel exactly once.
    pub fn input_gradient(
        &self,
        pool: &ThreadPool,
        grad_out: &[f32],
        weights: &[f32],
        branch: Option<Branch<'_>>,
        grad_in: &mut [f32],
        epilogue: Epilogue<'_>,
        workspace: &mut Buffer,
    ) {
        check_len("convolution weights", weights, self.packed_len());
        check_len("convolution output gradient", grad_out, self.output.len());
        let needed = self.workspace_len();
        assert!(workspace.len() >= needed, "workspace: expected {needed} floats, found {}", workspace.len());
        let (inner, outer) = (self.input.channels, self.output.channels);
        let (zeros, packed) = workspace.split_at_mut(outer);
        zeros.fill(0.0);
        let taps = self.taps() + usize::from(branch.is_some());
        let packed = &mut packed[..inner * outer * taps];
        let layout = weights::Layout::transposed(inner, outer, self.taps());
        weights::pack(pool, weights, layout, None, taps, 0, packed);
        if let Some(branch) = branch {
            check_len("branch weights", branch.weights, inner * outer);
            check_len("branch output gradient", branch.grad_out, self.output.len());
            let layout = weights::Layout::transposed(inner, outer, 1);
            weights::pack(pool, branch.weights, layout, None, taps, self.taps(), packed);
        }
        let epilogue = RawEpilogue::checked(self.input, grad_in, epilogue, pool.threads());
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
            forward::run(pool, &grid, self.output, self.input, packed, taps, zeros, epilogue);
        }
    }

    /// `grad_weights (K,C,R,R) = d loss / d weights`, overwritten.
    pub fn weight_gradient(
        &self,
        pool: &ThreadPool,
        x: &[f32],
        grad_out: Source<'_>,
        grad_weights: &mut [f32],
        workspace: &mut Buffer,
    ) {
        check_len("convolution input", x, self.input.len());
        check_len("convolution weight gradient", grad_weights, self.packed_len());
        let dy = grad_out.checked("convolution output gradient", self.output);
        let shape = gradient::Shape {
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            stride: self.stride,
        };
        gradient::run(pool, shape, x, dy, grad_weights, workspace);
    }

    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}
