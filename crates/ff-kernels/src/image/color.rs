//! Colour operations on vectors of red, green and blue in `[0,1]`, without branches.

use crate::cpu::simd::Pixels;

/// A colour operation with its constants worked out.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// `x * factor`
    Brightness(f32),
    /// Contrast: `x * factor + shift`.
    Blend { factor: f32, shift: f32 },
    /// `x * factor + (1 - factor) * grey`
    Saturation(f32),
    /// Hue, in sixths of a turn, 1 to 7.
    Hue(f32),
}

impl Step {
    /// At least 1, because the hue of a pixel starts at -1: so their sum is never negative, and one wrap is enough.
    pub(super) fn hue(turns: f32) -> Self {
        let sixths = 6.0 * turns;
        Step::Hue(if sixths < 1.0 { sixths + 6.0 } else { sixths })
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

/// Turns the hue: `ff_data::transforms::adjust_hue` in vectors, with the wheel written as distances from a sector:
/// for a hue `h` in `[0, 6)`, red is `|h - 3| - 1`, green `2 - |h - 2|`, blue `2 - |h - 4|`, each clamped to `[0,1]`,
/// stretched to the chroma and raised to the least value. That takes half the operations of wrapping a channel at a
/// time.
///
/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn hue<S: Pixels>([r, g, b]: [S::V; 3], shift: S::V) -> [S::V; 3] {
    // SAFETY: `S` is available.
    unsafe {
        let most = S::max(S::max(r, g), b);
        let least = S::min(S::min(r, g), b);
        let chroma = S::sub(most, least);
        // Grey has no chroma and `from` 0.
        let scale = S::div(S::splat(1.0), S::max(chroma, S::splat(1e-20)));
        let if_r = S::sub(g, b);
        let if_g = S::fma(chroma, S::splat(2.0), S::sub(b, r));
        let if_b = S::fma(chroma, S::splat(4.0), S::sub(r, g));
        let from = S::select_eq(most, r, if_r, S::select_eq(most, g, if_g, if_b));
        // [-1, 5] and a shift in [1, 7): one wrap.
        let hue = S::fma(from, scale, shift);
        let six = S::splat(6.0);
        let hue = S::sub(hue, S::select_ge(hue, six, six, S::splat(0.0)));
        let two = S::splat(2.0);
        let red = S::sub(S::abs(S::sub(hue, S::splat(3.0))), S::splat(1.0));
        let green = S::sub(two, S::abs(S::sub(hue, two)));
        let blue = S::sub(two, S::abs(S::sub(hue, S::splat(4.0))));
        [
            S::fma(chroma, clamp::<S>(red), least),
            S::fma(chroma, clamp::<S>(green), least),
            S::fma(chroma, clamp::<S>(blue), least),
        ]
    }
}
