//! Max-pool 3x3 stride 2 pad 1 (with BatchNorm and ReLU before it if wanted), NHWC.
//!
//! It stores which of the nine places won, one byte an output: the first maximum in row-major order,
//! and NaN wins over everything (PyTorch's rule). The backward pass reads the bytes, so it needs no input.

use crate::cpu::base::shape::{MapShape, check_channels, check_len};
use crate::cpu::base::threads::{SharedMut, ThreadPool, split};
use crate::cpu::fuse::load::{CheckedSource, FusedLoad, Load, with_load};
use crate::cpu::fuse::sums::ChannelSums;
use crate::cpu::norm::Gather;
use crate::cpu::simd::{Element, Kernel, Lanes, Level, Simd, dispatch};
use crate::network::max_pool_size;

/// A 3x3 stride-2 pad-1 max-pool of one shape.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    input: MapShape,
    output: MapShape,
}

impl MaxPool {
    /// A pool of `input`.
    pub fn new(input: MapShape) -> Self {
        check_channels("max-pool", input.channels);
        assert!(!input.is_empty(), "a pool needs at least one pixel, found {input:?}");
        let (height, width) = (max_pool_size(input.height), max_pool_size(input.width));
        Self { input, output: MapShape { height, width, ..input } }
    }

    /// Shape of the input.
    pub fn input(&self) -> MapShape {
        self.input
    }

    /// Shape of the output.
    pub fn output(&self) -> MapShape {
        self.output
    }

    /// `out = max over windows of source`, `argmax` the winning places (0 to 8).
    pub fn forward<E: Element>(
        &self,
        pool: &ThreadPool,
        source: FusedLoad<'_, E>,
        out: &mut [E],
        argmax: &mut [u8],
    ) {
        let source = source.checked("max-pool input", self.input);
        check_len("max-pool output", out, self.output.len());
        check_len("max-pool argmax", argmax, self.output.len());
        let (out, argmax) = (SharedMut::new(out), SharedMut::new(argmax));
        pool.run(|thread| {
            let rows = split(self.output.batch * self.output.height, pool.threads(), thread);
            let kernel = Forward { pool: *self, source, out: out.as_ptr(), argmax: argmax.as_ptr(), rows };
            // SAFETY: the pool's level is available; lengths are checked; rows are disjoint.
            unsafe { dispatch(pool.level(), kernel) }
        });
    }

    /// `grad_in = d loss / d input`, overwritten.
    pub fn backward<E: Element>(
        &self,
        pool: &ThreadPool,
        grad_out: &[E],
        argmax: &[u8],
        grad_in: &mut [f32],
    ) {
        check_len("max-pool input gradient", grad_in, self.input.len());
        let gradient = PooledGradient::checked(self, grad_out, argmax);
        let (height, row_len) = (self.input.height, self.input.width * self.input.channels);
        pool.for_each_rows(grad_in, row_len, |first, chunk| {
            for (i, row) in chunk.chunks_exact_mut(row_len).enumerate() {
                gradient.row(pool.level(), (first + i) / height, (first + i) % height, row);
            }
        });
    }

    /// Gathers `(sum g, sum g (raw - mean))` of the gradient `g` before the pool, without storing it.
    ///
    /// The workspace holds one row of the input for each thread.
    pub fn gather_backward<E: Element>(
        &self,
        pool: &ThreadPool,
        grad_out: &[E],
        argmax: &[u8],
        raw: &[E],
        mean: &[f32],
        sums: &mut ChannelSums,
        workspace: &mut [f32],
    ) {
        let MapShape { batch, height, width, channels } = self.input;
        let row_len = width * channels;
        check_len("max-pool input", raw, self.input.len());
        check_len("mean", mean, channels);
        assert!(workspace.len() >= pool.threads() * row_len, "workspace: too short for a row");
        let gradient = PooledGradient::checked(self, grad_out, argmax);
        let rows = sums.rows(channels, pool.threads());
        let space = SharedMut::new(workspace);
        pool.run(|thread| {
            // SAFETY: each thread's own part.
            let row = unsafe { space.slice(thread * row_len..(thread + 1) * row_len) };
            for at in split(batch * height, pool.threads(), thread) {
                gradient.row(pool.level(), at / height, at % height, row);
                let kernel = Gather { grad: row, raw: &raw[at * row_len..][..row_len], mean, rows, thread };
                // SAFETY: the pool's level is available; the sums hold these channels and this thread.
                unsafe { dispatch(pool.level(), kernel) }
            }
        });
    }
}

struct Forward<E> {
    pool: MaxPool,
    source: CheckedSource<E>,
    out: *mut E,
    argmax: *mut u8,
    rows: std::ops::Range<usize>,
}

impl<E: Lanes> Kernel for Forward<E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the maker of this kernel checked the lengths.
        unsafe { with_load!(self.source, load => self.go::<S, _>(load)) }
    }
}

impl<E: Lanes> Forward<E> {
    /// # Safety
    /// `S` available, lengths checked.
    #[inline(always)]
    unsafe fn go<S: Simd, L: Load>(&self, load: L) {
        let MapShape { height, width, channels, .. } = self.pool.input;
        let output = self.pool.output;
        for at in self.rows.clone() {
            let (image, oy) = (at / output.height, at % output.height);
            for ox in 0..output.width {
                let mut channel = 0;
                while channel < channels {
                    // SAFETY: only pixels inside the map are read, and only outputs inside it written.
                    unsafe {
                        let k = load.constants::<S>(channel);
                        let first_row = usize::from(oy == 0);
                        let first_column = usize::from(ox == 0);
                        let last_row = 2.min(height - oy * 2);
                        let last_column = 2.min(width - ox * 2);
                        let mut best = S::splat(f32::NEG_INFINITY);
                        // The first place of the window wins if nothing is larger than minus infinity.
                        let mut place = S::splat((first_row * 3 + first_column) as f32);
                        for r in first_row..=last_row {
                            let row = (image * height + oy * 2 + r - 1) * width;
                            for s in first_column..=last_column {
                                let offset = (row + ox * 2 + s - 1) * channels + channel;
                                let v = load.load::<S>(offset, &k);
                                place = S::pick(v, best, S::splat((r * 3 + s) as f32), place);
                                best = S::pick(v, best, v, best);
                            }
                        }
                        let offset = (at * output.width + ox) * channels + channel;
                        E::store::<S>(self.out.add(offset), best);
                        let mut places = [0.0f32; 16];
                        S::store(places.as_mut_ptr(), place);
                        for lane in 0..S::LANES {
                            // Places are 0 to 8, so the conversion needs no saturation.
                            *self.argmax.add(offset + lane) = places[lane].to_int_unchecked::<i32>() as u8;
                        }
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}

/// The gradient before a max-pool, a row at a time.
#[derive(Clone, Copy)]
pub(crate) struct PooledGradient<'a, E> {
    pool: MaxPool,
    grad: &'a [E],
    argmax: &'a [u8],
}

impl<'a, E: Element> PooledGradient<'a, E> {
    #[track_caller]
    pub(crate) fn checked(pool: &MaxPool, grad: &'a [E], argmax: &'a [u8]) -> Self {
        check_len("max-pool output gradient", grad, pool.output.len());
        check_len("max-pool argmax", argmax, pool.output.len());
        Self { pool: *pool, grad, argmax }
    }

    /// Writes row `y` of image `image`.
    pub(crate) fn row(&self, level: Level, image: usize, y: usize, row: &mut [f32]) {
        let MapShape { batch, height, width, channels } = self.pool.input;
        check_len("row", row, width * channels);
        assert!(image < batch && y < height, "row {y} of image {image}");
        // SAFETY: callers pass a pool's level, which is available; lengths are checked.
        unsafe { dispatch(level, BackwardRow { gradient: *self, image, y, row }) }
    }
}

struct BackwardRow<'a, E> {
    gradient: PooledGradient<'a, E>,
    image: usize,
    y: usize,
    row: &'a mut [f32],
}

impl<E: Element> Kernel for BackwardRow<'_, E> {
    const BF16: bool = E::BF16;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let PooledGradient { pool, grad, argmax } = self.gradient;
        let (output, channels) = (pool.output, pool.input.channels);
        // An odd row lies in two windows (place 2 of the upper, 0 of the lower), an even one in place 1 of one.
        let windows = |n: usize, limit: usize| {
            let second = if n % 2 == 1 && n / 2 + 1 < limit { Some((n / 2 + 1, 0)) } else { None };
            [Some((n / 2, 1 + n % 2)), second]
        };
        let rows = windows(self.y, output.height);
        for x in 0..pool.input.width {
            let columns = windows(x, output.width);
            let to = &mut self.row[x * channels..][..channels];
            to.fill(0.0);
            for (oy, r) in rows.iter().flatten() {
                for (ox, s) in columns.iter().flatten() {
                    let offset = ((self.image * output.height + oy) * output.width + ox) * channels;
                    let (grad, argmax) = (&grad[offset..][..channels], &argmax[offset..][..channels]);
                    let place = (r * 3 + s) as u8;
                    for c in 0..channels {
                        to[c] += if argmax[c] == place { grad[c].to_f32() } else { 0.0 };
                    }
                }
            }
        }
    }
}
