//! Where a unit's rows come from: a map in memory, or the stem over the pixels of an image.

use super::product::{Inputs, multiply};
use super::{PaddedPixels, PixelStem};
use crate::cpu::simd::Simd;

/// Rows of `channels` floats a pixel.
pub(crate) enum Rows<'a> {
    Map { map: &'a [f32], row_len: usize },
    Stem { stem: &'a PixelStem, image: PaddedPixels<'a> },
}

impl<'a> Rows<'a> {
    pub(crate) fn map(map: &'a [f32], row_len: usize) -> Self {
        Rows::Map { map, row_len }
    }

    pub(crate) fn stem(stem: &'a PixelStem, image: PaddedPixels<'a>) -> Self {
        Rows::Stem { stem, image }
    }

    /// Floats of scratch that a row of `width` pixels needs.
    pub(crate) fn scratch_len(&self, width: usize) -> usize {
        match self {
            Rows::Map { .. } => 0,
            Rows::Stem { stem, .. } => 3 * stem_line(width) + width * stem.outputs,
        }
    }

    /// Row `y`, in the map or made in `scratch`.
    ///
    /// # Safety
    /// `S` is available, `y` inside, `scratch` holds [`Rows::scratch_len`] floats.
    #[inline(always)]
    pub(crate) unsafe fn row<S: Simd>(&self, y: usize, width: usize, scratch: &mut [f32]) -> *const f32 {
        match self {
            Rows::Map { map, row_len } => map[y * row_len..][..*row_len].as_ptr(),
            Rows::Stem { stem, image } => {
                let line = stem_line(width);
                let (lines, row) = scratch.split_at_mut(3 * line);
                for (r, line) in lines.chunks_exact_mut(line).enumerate() {
                    image.line((2 * y + r).checked_sub(1), line);
                }
                let inputs = Inputs { parts: 3, len: 9, stride: line, step: 6 };
                let (weights, bias) = (stem.weights.as_ptr(), stem.bias.as_ptr());
                // SAFETY: a line holds the windows of `width` pixels; the row holds its outputs.
                unsafe {
                    multiply::<S, true>(
                        lines.as_ptr(),
                        inputs,
                        weights,
                        bias,
                        stem.outputs,
                        row.as_mut_ptr(),
                        width,
                    );
                }
                row.as_ptr()
            }
        }
    }
}

/// Floats of a line of pixels with the zero column before it: windows of 3, two apart.
fn stem_line(width: usize) -> usize {
    (2 * width + 1) * 3
}

impl PaddedPixels<'_> {
    /// Row `y` as floats after one zero pixel, zeros outside of the image.
    #[inline(always)]
    fn line(&self, y: Option<usize>, line: &mut [f32]) {
        let Some(y) = y.filter(|&y| y < self.height) else {
            line.fill(0.0);
            return;
        };
        let row = &self.pixels[y * self.width * 3..][..self.width * 3];
        let (zero, rest) = line.split_at_mut(3);
        let (values, beyond) = rest.split_at_mut(row.len());
        zero.fill(0.0);
        for (value, &byte) in values.iter_mut().zip(row) {
            *value = f32::from(byte);
        }
        beyond.fill(0.0);
    }
}
