//! The stem of one shape: how its images are packed, and the lengths of what it works in.

use crate::cpu::base::shape::{MapShape, check_channels, product};

pub(super) const KERNEL: usize = 7;
pub(super) const PAD: usize = 3;
pub(super) const COLORS: usize = 3;
pub(super) const TAPS: usize = COLORS * KERNEL * KERNEL;
/// Taps rounded up to rows of the widest micro-kernel.
pub(super) const TAP_ROWS: usize = TAPS.next_multiple_of(12);

/// The stem convolution of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Stem {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) output: MapShape,
    pub(super) threads: usize,
}

impl Stem {
    /// A stem of `(batch, 3, height, width)` images to `out_channels` channels.
    ///
    /// # Panics
    /// Channels that are no multiple of 16; a size that there is no stem of.
    pub fn new(batch: usize, height: usize, width: usize, out_channels: usize, threads: usize) -> Self {
        check_channels("stem output", out_channels);
        assert!(batch > 0 && height > 0 && width > 0, "a stem needs at least one pixel");
        let out = |n: usize| (n - 1) / 2 + 1;
        let output = MapShape { batch, height: out(height), width: out(width), channels: out_channels };
        let stem = Self { batch, height, width, output, threads };
        // None of the lengths below may wrap.
        output.len();
        product("stem weights", &[out_channels, TAP_ROWS]);
        product("padded images", &[batch, COLORS, height.saturating_add(2 * PAD + 1), 2, stem.row_len()]);
        stem
    }

    /// The same stem for another number of images.
    pub fn with_batch(&self, batch: usize) -> Self {
        Self::new(batch, self.height, self.width, self.output.channels, self.threads)
    }

    /// Shape of the output.
    pub fn output(&self) -> MapShape {
        self.output
    }

    /// Multiply-adds.
    pub fn macs(&self) -> usize {
        self.output.len() * TAPS
    }

    /// Floats of the packed images.
    pub fn packed_len(&self) -> usize {
        self.batch * self.image_len()
    }

    /// Floats of workspace, for both directions.
    pub fn workspace_len(&self) -> usize {
        let channels = self.output.channels;
        let weight_gradient = self.threads * (channels * TAP_ROWS + 2 * self.output.width * channels);
        weight_gradient.max(channels * TAPS)
    }

    pub(super) fn row_len(&self) -> usize {
        (self.output.width + 16).next_multiple_of(8)
    }

    pub(super) fn image_rows(&self) -> usize {
        self.height + 2 * PAD + 1
    }

    pub(super) fn image_len(&self) -> usize {
        COLORS * self.image_rows() * 2 * self.row_len()
    }

    /// Offsets of every tap from the packed place of an output pixel.
    pub(super) fn offsets(&self) -> [usize; TAP_ROWS] {
        let mut offsets = [0; TAP_ROWS];
        for (tap, offset) in offsets[..TAPS].iter_mut().enumerate() {
            let (color, r, s) = (tap / 49, tap / KERNEL % KERNEL, tap % KERNEL);
            *offset = ((color * self.image_rows() + r) * 2 + s % 2) * self.row_len() + s / 2;
        }
        offsets
    }
}
