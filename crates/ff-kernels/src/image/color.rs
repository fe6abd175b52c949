//! Colour operations on vectors of red, green and blue in `[0,1]`, without branches.

use crate::simd::Pixels;

/// A colour operation with its constants worked out.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// `x * factor`
    Brightness(f32),
    /// Contrast: `x * factor + shift`.
    Blend { factor: f32, shift: f32 },
    /// `x * factor + (1 - factor) * grey`
    Saturation(f32),
    /// Hue, in sixths of a turn, 0 to 6.
    Hue(f32),
}

impl Step {
    /// Never negative, so that one wrap is enough.
    pub(super) fn hue(turns: f32) -> Self {
        Step::Hue(6.0 * if turns < 0.0 { turns + 1.0 } else { turns })
    }
}

/// All steps on `N` vectors of pixels.
///
/// # Safety
/// `S` available.
#[inline(always)]
pub(super) unsafe fn run_steps<S: Pixels, const N: usize>(
    mut pixels: [[S::V; 3]; N],
    steps: &[Step],
) -> [[S::V; 3]; N] {
    // SAFETY: `S` is available.
    unsafe {
        for step in steps {
            match *step {
                Step::Brightness(factor) => {
                    let factor = S::splat(factor);
                    for rgb in &mut pixels {
                        for x in rgb {
                            *x = clamp::<S>(S::mul(*x, factor));
                        }
                    }
                }
                Step::Blend { factor, shift } => {
                    let (factor, shift) = (S::splat(factor), S::splat(shift));
                    for rgb in &mut pixels {
                        for x in rgb {
                            *x = clamp::<S>(S::fma(*x, factor, shift));
                        }
                    }
                }
                Step::Saturation(factor) => {
                    let (rest, factor) = (S::splat(1.0 - factor), S::splat(factor));
                    for rgb in &mut pixels {
                        let shift = S::mul(grey::<S>(*rgb), rest);
                        for x in rgb {
                            *x = clamp::<S>(S::fma(*x, factor, shift));
                        }
                    }
                }
                Step::Hue(shift) => {
                    for rgb in &mut pixels {
                        *rgb = hue::<S>(*rgb, S::splat(shift));
                    }
                }
            }
        }
        pixels
    }
}

/// `0.2989 r + 0.587 g + 0.114 b`
///
/// # Safety
/// `S` available.
#[inline(always)]
pub(super) unsafe fn grey<S: Pixels>([r, g, b]: [S::V; 3]) -> S::V {
    // SAFETY: `S` is available.
    unsafe { S::fma(b, S::splat(0.114), S::fma(g, S::splat(0.587), S::mul(r, S::splat(0.2989)))) }
}

/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn clamp<S: Pixels>(x: S::V) -> S::V {
    // SAFETY: `S` is available.
    unsafe { S::min(S::max(x, S::splat(0.0)), S::splat(1.0)) }
}

/// `x mod 6` for `x` in `[0, 12)`.
///
/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn wrap<S: Pixels>(x: S::V) -> S::V {
    // SAFETY: `S` is available.
    unsafe { S::sub(x, S::select_ge(x, S::splat(6.0), S::splat(6.0), S::splat(0.0))) }
}

/// Turns the hue: `ff_data::transforms::adjust_hue` in vectors. A channel falls from the largest value by the chroma
/// as its distance from its own sector of the wheel grows.
///
/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn hue<S: Pixels>([r, g, b]: [S::V; 3], shift: S::V) -> [S::V; 3] {
    // SAFETY: `S` is available.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        let value = S::max(S::max(r, g), b);
        let chroma = S::sub(value, S::min(S::min(r, g), b));
        let scale = S::div(one, S::select_eq(chroma, zero, one, chroma));
        let if_r = S::sub(g, b);
        let if_g = S::fma(chroma, S::splat(2.0), S::sub(b, r));
        let if_b = S::fma(chroma, S::splat(4.0), S::sub(r, g));
        let from = S::select_eq(value, r, if_r, S::select_eq(value, g, if_g, if_b));
        // In [-1, 5]; the first wrap brings it to [0, 6), the second after adding a shift in [0, 6).
        let hue = S::mul(from, scale);
        let hue = S::select_ge(hue, zero, hue, S::add(hue, S::splat(6.0)));
        let hue = wrap::<S>(S::add(hue, shift));
        let mut out = [value; 3];
        for (channel, start) in out.iter_mut().zip([5.0, 3.0, 1.0]) {
            let k = wrap::<S>(S::add(hue, S::splat(start)));
            let fall = S::max(S::min(S::min(k, S::sub(S::splat(4.0), k)), one), zero);
            *channel = clamp::<S>(S::sub(value, S::mul(chroma, fall)));
        }
        out
    }
}
