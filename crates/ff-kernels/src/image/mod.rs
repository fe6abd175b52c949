//! Augmentation in one pass: decoded pixels `(H,W,3)` u8 in, normalised planes `(3,H,W)` f32 out.
//!
//! Mirror, colours in their order with a clamp after each, and maps one after the other (nearest, outside black), as
//! torchvision defines them on float tensors; then `(x - mean) / std`. Every pixel is read, worked on in registers and
//! written once. Contrast blends with the mean grey of the whole image as it is at that point of the order: a pass
//! before gathers that mean and writes nothing.
//!
//! Nothing is allocated. Results agree with the plain passes of `ff_data::transforms` to rounding (1e-5); the choice of
//! source pixels is theirs exactly.

mod color;
mod fetch;

use crate::cpu::base::shape::product;
use crate::cpu::simd::{Level, PixelKernel, Pixels, dispatch_pixels};
use color::{Step, grey, run_steps};
use fetch::{Fetch, Mapped, Mirrored, Planes, Straight};

/// ImageNet's channel means, in `[0,1]`.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations, in `[0,1]`.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// An image `(H,W,3)` u8.
#[derive(Debug, Clone, Copy)]
pub struct Rgb<'a> {
    /// `3 * width * height` bytes.
    pub pixels: &'a [u8],
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A colour operation on values in `[0,1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ColorOp {
    /// `x * factor`.
    Brightness(f32),
    /// `x * factor + (1 - factor) * mean grey of the image`.
    Contrast(f32),
    /// `x * factor + (1 - factor) * grey of the pixel`.
    Saturation(f32),
    /// A turn of the hue in HSV, -0.5 to 0.5.
    Hue(f32),
}

/// Where an output pixel comes from, about the centre: `x' = m0 x + m1 y + m2`, `y' = m3 x + m4 y + m5`.
pub type InverseMap = [f32; 6];

/// The map that takes an output pixel through `last` and then through `first`.
pub fn compose([a, b, c, d, e, f]: &InverseMap, [xx, xy, x0, yx, yy, y0]: &InverseMap) -> InverseMap {
    [
        a * xx + b * yx,
        a * xy + b * yy,
        a * x0 + b * y0 + c,
        d * xx + e * yx,
        d * xy + e * yy,
        d * x0 + e * y0 + f,
    ]
}

/// What to do with an image, in the order of the fields.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// Whether left and right change places.
    pub mirrored: bool,
    /// Colour operations, the first first; at most [`Recipe::MOST_COLORS`], one contrast among them.
    pub colors: &'a [ColorOp],
    /// Maps, the first first; at most [`Recipe::MOST_MAPS`].
    pub maps: &'a [InverseMap],
    /// A channel's mean, taken away.
    pub mean: [f32; 3],
    /// A channel's standard deviation, divided by.
    pub std: [f32; 3],
}

impl Recipe<'_> {
    /// ColorJitter has four operations.
    pub const MOST_COLORS: usize = 4;
    /// A rotation and an affine map.
    pub const MOST_MAPS: usize = 2;
}

/// Applies a recipe: `image (H,W,3)` u8 -> `out (3,H,W)` f32.
///
/// # Panics
/// A size that does not fit the image or `out`; an image without pixels or with 2^24 or more; more operations than a
/// recipe may have; two contrasts; a level that this machine lacks.
pub fn augment(level: Level, image: Rgb<'_>, recipe: &Recipe<'_>, out: &mut [f32]) {
    let area = product("an image", &[image.width, image.height]);
    assert!((1..1 << 24).contains(&area), "expected 1 to 2^24 - 1 pixels, found {area}");
    assert_eq!(image.pixels.len(), 3 * area, "expected an image of {} x {}", image.width, image.height);
    assert_eq!(out.len(), 3 * area, "expected three planes of {} x {}", image.width, image.height);
    assert!(recipe.maps.len() <= Recipe::MOST_MAPS, "expected at most two maps");
    assert!(level.is_available(), "expected an instruction set that is there, found {level:?}");

    let mut buffer = [Step::Brightness(1.0); Recipe::MOST_COLORS];
    let steps = &mut buffer[..recipe.colors.len()];
    let finish = Finish::new(recipe);
    let mut pass = Pass { image, recipe, from: From::Image, steps: &[], end: End::Store(finish), out };
    let mut first = 0;
    for i in 0..steps.len() {
        steps[i] = match recipe.colors[i] {
            ColorOp::Brightness(factor) => Step::Brightness(factor),
            ColorOp::Saturation(factor) => Step::Saturation(factor),
            ColorOp::Hue(turns) => Step::hue(turns),
            ColorOp::Contrast(factor) => {
                assert!(matches!(pass.end, End::Store(_)), "expected one contrast at most");
                let mut total = 0.0;
                // Without maps the second pass goes on from the planes that this one leaves behind; with maps it
                // begins anew, because gathering bytes is cheaper than gathering three planes.
                let keep = recipe.maps.is_empty() && i > 0;
                let before = Pass {
                    end: if keep { End::StoreAndSum(&mut total) } else { End::Sum(&mut total) },
                    steps: &steps[..i],
                    out: &mut *pass.out,
                    ..pass
                };
                // SAFETY: the level is available; image and planes have 3 * area bytes and floats.
                unsafe { dispatch_pixels(level, before) };
                if keep {
                    (pass.from, first) = (From::Planes, i);
                }
                Step::Blend { factor, shift: (1.0 - factor) * (total / area as f64) as f32 }
            }
        };
    }
    pass.steps = &steps[first..];
    // SAFETY: as above.
    unsafe { dispatch_pixels(level, pass) }
}

/// `(x - mean) / std` as `x * scale + shift`.
#[derive(Clone, Copy)]
struct Finish {
    scale: [f32; 3],
    shift: [f32; 3],
}

impl Finish {
    fn new(recipe: &Recipe<'_>) -> Self {
        let scale = recipe.std.map(|std| 1.0 / std);
        Finish { scale, shift: std::array::from_fn(|c| -recipe.mean[c] * scale[c]) }
    }
}

/// Where a pass reads its pixels.
#[derive(Clone, Copy)]
enum From {
    /// The image, mirrored and through the maps.
    Image,
    /// The planes that are written, where a pass before left its values.
    Planes,
}

/// What a pass does with its pixels.
enum End<'a> {
    /// Normalises and stores them.
    Store(Finish),
    /// Stores them as they are, and adds up their grey.
    StoreAndSum(&'a mut f64),
    /// Adds up their grey only. Maps come later than that.
    Sum(&'a mut f64),
}

/// One way through all pixels.
struct Pass<'a> {
    image: Rgb<'a>,
    recipe: &'a Recipe<'a>,
    from: From,
    steps: &'a [Step],
    end: End<'a>,
    out: &'a mut [f32],
}

/// Pixels summed in f32 lanes before they go to f64, so that the sum is exact to a few ulp at any size.
const SPAN: usize = 2048;

impl PixelKernel for Pass<'_> {
    #[inline(always)]
    unsafe fn run<S: Pixels>(self) {
        let Rgb { pixels, width, height } = self.image;
        let area = width * height;
        let unit = Finish { scale: [1.0; 3], shift: [0.0; 3] };
        let (finish, stores, total) = match self.end {
            End::Store(finish) => (finish, true, None),
            End::StoreAndSum(total) => (unit, true, Some(total)),
            End::Sum(total) => (unit, false, Some(total)),
        };
        let sums = total.is_some();
        let start = self.out.as_mut_ptr();
        let mut row = Row { out: start, area, steps: self.steps, finish: &finish, stores, sums };
        let mut sum = 0.0;
        // SAFETY: `S` is available; rows and spans lie in the image and in each of the three planes.
        unsafe {
            if matches!(self.from, From::Planes) {
                for at in (0..area).step_by(SPAN) {
                    row.out = start.add(at);
                    sum += row.run::<S, _>(&Planes { row: row.out, area }, SPAN.min(area - at));
                }
            } else if stores && !self.recipe.maps.is_empty() {
                let mapped = Mapped::new(self.image, self.recipe);
                for y in 0..height {
                    row.out = start.add(y * width);
                    sum += row.run::<S, _>(&mapped.row(y), width);
                }
            } else if stores && self.recipe.mirrored {
                for y in 0..height {
                    row.out = start.add(y * width);
                    let from = Mirrored { row: pixels.as_ptr().add(3 * y * width), width };
                    sum += row.run::<S, _>(&from, width);
                }
            } else {
                for at in (0..area).step_by(SPAN) {
                    row.out = start.add(at);
                    let from = Straight { row: pixels.as_ptr().add(3 * at) };
                    sum += row.run::<S, _>(&from, SPAN.min(area - at));
                }
            }
        }
        if let Some(total) = total {
            *total = sum;
        }
    }
}

/// Pixels of a row to the three planes, of which `out` is the first's.
struct Row<'a> {
    out: *mut f32,
    area: usize,
    steps: &'a [Step],
    finish: &'a Finish,
    stores: bool,
    sums: bool,
}

impl Row<'_> {
    /// The sum of the grey image, if it is wanted.
    ///
    /// # Safety
    /// `S` available; `n` pixels to fetch, and room for them from `out` on in every plane.
    #[inline(always)]
    unsafe fn run<S: Pixels, F: Fetch>(&self, fetch: &F, n: usize) -> f64 {
        // SAFETY: the caller's promise; the tail goes through an array.
        unsafe {
            let mut lanes = [0.0_f32; 16];
            let mut sum = S::splat(0.0);
            let mut x = 0;
            // Two vectors at a time: hue is a long chain of dependent operations.
            while x + 2 * S::LANES <= n {
                let (first, keep_first) = fetch.fetch::<S>(x);
                let (second, keep_second) = fetch.fetch::<S>(x + S::LANES);
                let [first, second] = run_steps::<S, 2>([first, second], self.steps);
                if self.sums {
                    sum = S::add(sum, S::add(grey::<S>(first), grey::<S>(second)));
                }
                if self.stores {
                    let first = self.finished::<S, F>(first, keep_first);
                    let second = self.finished::<S, F>(second, keep_second);
                    for c in 0..3 {
                        S::store(self.out.add(c * self.area + x), first[c]);
                        S::store(self.out.add(c * self.area + x + S::LANES), second[c]);
                    }
                }
                x += 2 * S::LANES;
            }
            S::store(lanes.as_mut_ptr(), sum);
            let mut total = f64::from(lanes[..S::LANES].iter().sum::<f32>());
            while x < n {
                let here = (n - x).min(S::LANES);
                let (rgb, keep) =
                    if here == S::LANES { fetch.fetch::<S>(x) } else { fetch.fetch_tail::<S>(x, here) };
                let [rgb] = run_steps::<S, 1>([rgb], self.steps);
                S::store(lanes.as_mut_ptr(), grey::<S>(rgb));
                total += f64::from(lanes[..here].iter().sum::<f32>());
                if self.stores {
                    let rgb = self.finished::<S, F>(rgb, keep);
                    for (c, &channel) in rgb.iter().enumerate() {
                        S::store(lanes.as_mut_ptr(), channel);
                        lanes.as_ptr().copy_to_nonoverlapping(self.out.add(c * self.area + x), here);
                    }
                }
                x += here;
            }
            total
        }
    }

    /// Black where nothing is kept, then normalised.
    ///
    /// # Safety
    /// `S` available.
    #[inline(always)]
    unsafe fn finished<S: Pixels, F: Fetch>(&self, rgb: [S::V; 3], keep: S::V) -> [S::V; 3] {
        // SAFETY: `S` is available.
        unsafe {
            let mut out = rgb;
            for c in 0..3 {
                let value = if F::HAS_OUTSIDE { S::mul(rgb[c], keep) } else { rgb[c] };
                out[c] = S::fma(value, S::splat(self.finish.scale[c]), S::splat(self.finish.shift[c]));
            }
            out
        }
    }
}
