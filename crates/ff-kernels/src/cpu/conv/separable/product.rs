//! Pixels times weights: a block of 6 pixels by 16 channels in registers, of 10 by 32 where there are 32 registers.

use crate::cpu::simd::Simd;

/// Pixels of a block on 32 registers. Photos are looked at with 640 pixels a side: 160, 80, 40 and 20 are tens.
const WIDE: usize = 10;

/// What a pixel's inputs are: `parts` runs of `len` values, `stride` apart. A map has one run, a 3x3 window three.
#[derive(Clone, Copy)]
pub(crate) struct Inputs {
    pub parts: usize,
    pub len: usize,
    pub stride: usize,
    /// From one pixel to the next.
    pub step: usize,
}

/// `out[pixel][0..channels] = bias + inputs of the pixel * weights` for `count` pixels.
///
/// # Safety
/// `S` available; `from` holds the inputs of `count` pixels; `weights` is (parts * len, channels), `bias` and each of
/// `count` pixels of `out` hold `channels`, a multiple of 16.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, const RELU: bool>(
    from: *const f32,
    inputs: Inputs,
    weights: *const f32,
    bias: *const f32,
    channels: usize,
    out: *mut f32,
    count: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let block = if S::GROUPS == 2 { WIDE } else { 6 };
        if count < block {
            for pixel in 0..count {
                let (from, out) = (from.add(pixel * inputs.step), out.add(pixel * channels));
                row_of_blocks::<S, RELU, 1>(from, inputs, weights, bias, channels, out);
            }
            return;
        }
        let mut pixel = 0;
        loop {
            let (from, to) = (from.add(pixel * inputs.step), out.add(pixel * channels));
            if S::GROUPS == 2 {
                row_of_blocks::<S, RELU, WIDE>(from, inputs, weights, bias, channels, to);
            } else {
                row_of_blocks::<S, RELU, 6>(from, inputs, weights, bias, channels, to);
            }
            if pixel + block == count {
                return;
            }
            // The last block overlaps the one before: pixels made twice get the same values.
            pixel = (pixel + block).min(count - block);
        }
    }
}

/// All channels of `R` pixels.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn row_of_blocks<S: Simd, const RELU: bool, const R: usize>(
    from: *const f32,
    inputs: Inputs,
    weights: *const f32,
    bias: *const f32,
    channels: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut channel = 0;
        if S::GROUPS == 2 {
            while channel + 32 <= channels {
                block::<S, RELU, R, 2>(from, inputs, weights, bias, channels, channel, out);
                channel += 32;
            }
        }
        while channel < channels {
            block::<S, RELU, R, 1>(from, inputs, weights, bias, channels, channel, out);
            channel += 16;
        }
    }
}

/// `R` pixels by `N` times 16 channels.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn block<S: Simd, const RELU: bool, const R: usize, const N: usize>(
    from: *const f32,
    inputs: Inputs,
    weights: *const f32,
    bias: *const f32,
    channels: usize,
    channel: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut start = [S::w_zero(); N];
        for n in 0..N {
            start[n] = S::w_load(bias.add(channel + n * 16));
        }
        let mut sums = [start; R];
        let mut row = weights.add(channel);
        for part in 0..inputs.parts {
            let from = from.add(part * inputs.stride);
            for k in 0..inputs.len {
                let mut b = [S::w_zero(); N];
                for n in 0..N {
                    b[n] = S::w_load(row.add(n * 16));
                }
                row = row.add(channels);
                for r in 0..R {
                    let a = S::splat(*from.add(r * inputs.step + k));
                    for n in 0..N {
                        sums[r][n] = S::w_fma(a, b[n], sums[r][n]);
                    }
                }
            }
        }
        for r in 0..R {
            for n in 0..N {
                let to = out.add(r * channels + channel + n * 16);
                S::w_store(to, sums[r][n]);
                if RELU {
                    for lane in (0..16).step_by(S::LANES) {
                        S::store(to.add(lane), S::relu(S::load(to.add(lane))));
                    }
                }
            }
        }
    }
}
