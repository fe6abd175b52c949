//! A unit from its first row to its last: a ring of three product rows, the depthwise over them, ReLU and pool.

use super::product::{Inputs, multiply};
use super::rows::Rows;
use super::{Ending, Separable};
use crate::cpu::simd::{Kernel, Simd};

pub(crate) struct Forward<'a> {
    pub unit: &'a Separable,
    pub rows: Rows<'a>,
    pub height: usize,
    pub width: usize,
    pub ending: Ending,
    pub scratch: &'a mut [f32],
    pub out: &'a mut [f32],
}

/// Floats of the ring, of a row of zeros, and of two rows before a pool.
pub(crate) fn scratch_len(unit: &Separable, width: usize) -> usize {
    4 * line_len(unit, width) + 2 * width * unit.outputs
}

/// A row with a zero pixel on either side.
fn line_len(unit: &Separable, width: usize) -> usize {
    (width + 2) * unit.outputs
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Forward { unit, rows, height, width, ending, scratch, out } = self;
        let channels = unit.outputs;
        let line = line_len(unit, width);
        let (ring, rest) = scratch.split_at_mut(3 * line);
        let (zeros, rest) = rest.split_at_mut(line);
        let (before_pool, of_rows) = rest.split_at_mut(2 * width * channels);
        zeros.fill(0.0);
        for line in ring.chunks_exact_mut(line) {
            line[..channels].fill(0.0);
            line[(width + 1) * channels..].fill(0.0);
        }
        let inputs = Inputs { parts: 1, len: unit.inputs, stride: 0, step: unit.inputs };
        for y in 0..height {
            // Row y + 1 is needed for the first time, at the top row y too.
            for next in if y == 0 { 0..2.min(height) } else { y + 1..(y + 2).min(height) } {
                let to = &mut ring[next % 3 * line + channels..][..width * channels];
                // SAFETY: the maker of this kernel checked the level and all lengths.
                unsafe {
                    let from = rows.row::<S>(next, width, of_rows);
                    let (weights, bias) = (unit.pointwise.as_ptr(), unit.pointwise_bias.as_ptr());
                    multiply::<S, false>(from, inputs, weights, bias, channels, to.as_mut_ptr(), width);
                }
            }
            let at = |y: usize| &ring[y % 3 * line..][..line];
            let above = if y == 0 { &*zeros } else { at(y - 1) };
            let below = if y + 1 == height { &*zeros } else { at(y + 1) };
            let around = [above, at(y), below];
            let row_len = width * channels;
            // SAFETY: lines hold `width + 2` pixels, rows `width`.
            unsafe {
                match ending {
                    Ending::Plain => depthwise::<S, false>(unit, around, &mut out[y * row_len..][..row_len]),
                    Ending::Relu => depthwise::<S, true>(unit, around, &mut out[y * row_len..][..row_len]),
                    Ending::ReluPool => {
                        depthwise::<S, true>(unit, around, &mut before_pool[y % 2 * row_len..][..row_len]);
                        if y % 2 == 1 {
                            let (upper, lower) = before_pool.split_at(row_len);
                            let to = &mut out[y / 2 * row_len / 2..][..row_len / 2];
                            pool::<S>(upper, lower, channels, to);
                        }
                    }
                }
            }
        }
    }
}

/// Pixels that are summed at once: their windows share columns.
const UNROLL: usize = 4;

/// The depthwise 3x3 of a row.
///
/// # Safety
/// `S` is available; lines hold two pixels more than `out`.
#[inline(always)]
unsafe fn depthwise<S: Simd, const RELU: bool>(unit: &Separable, lines: [&[f32]; 3], out: &mut [f32]) {
    let channels = unit.outputs;
    let width = out.len() / channels;
    for channel in (0..channels).step_by(S::LANES) {
        // SAFETY: the caller's promises.
        unsafe {
            let mut weights = [[S::splat(0.0); 3]; 3];
            for r in 0..3 {
                for s in 0..3 {
                    weights[r][s] = S::load(unit.depthwise.as_ptr().add((r * 3 + s) * channels + channel));
                }
            }
            let bias = S::load(unit.depthwise_bias.as_ptr().add(channel));
            let from = lines.map(|line| line.as_ptr().add(channel));
            let to = out.as_mut_ptr().add(channel);
            let mut x = 0;
            while x + UNROLL <= width {
                pixels::<S, RELU, UNROLL>(from, x, channels, weights, bias, to);
                x += UNROLL;
            }
            while x < width {
                pixels::<S, RELU, 1>(from, x, channels, weights, bias, to);
                x += 1;
            }
        }
    }
}

/// `U` pixels from `x` on, one vector of channels.
///
/// # Safety
/// As [`depthwise`].
#[inline(always)]
unsafe fn pixels<S: Simd, const RELU: bool, const U: usize>(
    lines: [*const f32; 3],
    x: usize,
    channels: usize,
    weights: [[S::V; 3]; 3],
    bias: S::V,
    to: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [bias; U];
        for r in 0..3 {
            for column in 0..U + 2 {
                let value = S::load(lines[r].add((x + column) * channels));
                for u in 0..U {
                    if column >= u && column < u + 3 {
                        sums[u] = S::fma(value, weights[r][column - u], sums[u]);
                    }
                }
            }
        }
        for u in 0..U {
            let sum = if RELU { S::relu(sums[u]) } else { sums[u] };
            S::store(to.add((x + u) * channels), sum);
        }
    }
}

/// The largest of 2x2 pixels.
///
/// # Safety
/// `S` is available; the rows hold twice as many pixels as `out`.
#[inline(always)]
unsafe fn pool<S: Simd>(upper: &[f32], lower: &[f32], channels: usize, out: &mut [f32]) {
    for x in 0..out.len() / channels {
        for channel in (0..channels).step_by(S::LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let load =
                    |row: &[f32], dx: usize| S::load(row.as_ptr().add((2 * x + dx) * channels + channel));
                let larger = |a: S::V, b: S::V| S::pick(a, b, a, b);
                let above = larger(load(upper, 0), load(upper, 1));
                let below = larger(load(lower, 0), load(lower, 1));
                S::store(out.as_mut_ptr().add(x * channels + channel), larger(above, below));
            }
        }
    }
}
