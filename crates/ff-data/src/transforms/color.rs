//! ColorJitter's four operations, as `torchvision.transforms.v2.functional` defines them on float tensors.
//!
//! Each takes three planes in `[0,1]` and leaves them in `[0,1]`. Grey is `0.2989 r + 0.587 g + 0.114 b`. Loops run
//! over flat planes without branches, so that the compiler vectorises them.

/// `x * factor`, clamped.
pub fn adjust_brightness(planes: &mut [f32], factor: f32) {
    for value in planes {
        *value = clamp(*value * factor);
    }
}

/// Blends with the mean of the grey image: `x * factor + (1 - factor) * mean`, clamped.
pub fn adjust_contrast(planes: &mut [f32], factor: f32) {
    let shift = (1.0 - factor) * mean_grey(planes);
    for value in planes {
        *value = clamp(*value * factor + shift);
    }
}

/// Blends with the grey image: `x * factor + (1 - factor) * grey`, clamped.
pub fn adjust_saturation(planes: &mut [f32], factor: f32) {
    for ((r, g), b) in pixels_mut(planes) {
        let shift = (1.0 - factor) * grey(*r, *g, *b);
        *r = clamp(*r * factor + shift);
        *g = clamp(*g * factor + shift);
        *b = clamp(*b * factor + shift);
    }
}

/// Turns the hue by `turns` in HSV, -0.5 to 0.5.
pub fn adjust_hue(planes: &mut [f32], turns: f32) {
    // In sixths of a turn, where the colour wheel is piecewise linear; never negative, so that one wrap is enough.
    let shift = 6.0 * if turns < 0.0 { turns + 1.0 } else { turns };
    for ((r, g), b) in pixels_mut(planes) {
        [*r, *g, *b] = shift_hue([*r, *g, *b], shift);
    }
}

fn shift_hue([r, g, b]: [f32; 3], shift: f32) -> [f32; 3] {
    let value = max(max(r, g), b);
    let chroma = value - min(min(r, g), b);
    let scale = 1.0 / if chroma == 0.0 { 1.0 } else { chroma };
    let hue = if value == r {
        (g - b) * scale
    } else if value == g {
        2.0 + (b - r) * scale
    } else {
        4.0 + (r - g) * scale
    };
    // `hue` starts in [-1, 5]: the first wrap brings it to [0, 6), the second after adding a shift in [0, 6).
    let hue = wrap(if hue < 0.0 { hue + 6.0 } else { hue } + shift);
    // Smith's hexcone in one formula: a channel falls from its maximum by `chroma` as its distance from its own
    // sector grows. Equal to torchvision's six cases but for rounding.
    let channel = |start: f32| {
        let k = wrap(start + hue);
        clamp(value - chroma * max(0.0, min(min(k, 4.0 - k), 1.0)))
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// `x mod 6` for `x` in [0, 12).
fn wrap(x: f32) -> f32 {
    if x >= 6.0 { x - 6.0 } else { x }
}

fn grey(r: f32, g: f32, b: f32) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

/// Sums short runs in f32 lanes and the runs in f64: fast, and exact to a few ulp at any size.
fn mean_grey(planes: &[f32]) -> f32 {
    const RUN: usize = 256;
    const LANES: usize = 8;
    let area = planes.len() / 3;
    let (r, rest) = planes.split_at(area);
    let (g, b) = rest.split_at(area);
    let mut total = 0.0_f64;
    for ((r, g), b) in r.chunks(RUN).zip(g.chunks(RUN)).zip(b.chunks(RUN)) {
        let mut sums = [0.0_f32; LANES];
        for ((r, g), b) in r.chunks(LANES).zip(g.chunks(LANES)).zip(b.chunks(LANES)) {
            for (((sum, &r), &g), &b) in sums.iter_mut().zip(r).zip(g).zip(b) {
                *sum += grey(r, g, b);
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
    }
    (total / area.max(1) as f64) as f32
}

type PixelMut<'a> = ((&'a mut f32, &'a mut f32), &'a mut f32);

fn pixels_mut(planes: &mut [f32]) -> impl Iterator<Item = PixelMut<'_>> {
    let area = planes.len() / 3;
    let (r, rest) = planes.split_at_mut(area);
    let (g, b) = rest.split_at_mut(area);
    r.iter_mut().zip(g).zip(b)
}

/// These three compile to one instruction each; `f32::min` and `max` also order NaN, which cannot occur here.
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn clamp(x: f32) -> f32 {
    min(max(x, 0.0), 1.0)
}
