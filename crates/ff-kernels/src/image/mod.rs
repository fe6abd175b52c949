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

use crate::simd::{Level, PixelKernel, Pixels, dispatch_pixels};
use color::{Step, grey, run_steps};
use fetch::{Fetch, Mapped, Mirrored, Straight};

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
    let area = image.width * image.height;
    assert!((1..1 << 24).contains(&area), "expected 1 to 2^24 - 1 pixels, found {area}");
    assert_eq!(image.pixels.len(), 3 * area, "expected an image of {} x {}", image.width, image.height);
    assert_eq!(out.len(), 3 * area, "expected three planes of {} x {}", image.width, image.height);
    assert!(recipe.maps.len() <= Recipe::MOST_MAPS, "expected at most two maps");
    assert!(level.is_available(), "expected an instruction set that is there, found {level:?}");

    let mut buffer = [Step::Brightness(1.0); Recipe::MOST_COLORS];
    let steps = &mut buffer[..recipe.colors.len()];
    for (i, &op) in recipe.colors.iter().enumerate() {
        steps[i] = match op {
            ColorOp::Brightness(factor) => Step::Brightness(factor),
            ColorOp::Saturation(factor) => Step::Saturation(factor),
            ColorOp::Hue(turns) => Step::hue(turns),
            ColorOp::Contrast(factor) => {
                let mut total = 0.0;
                // SAFETY: the level is available, and the image has 3 * area bytes.
                unsafe {
                    dispatch_pixels(level, GreySum { image, steps: &steps[..i], total: &mut total });
                }
                Step::Blend { factor, shift: (1.0 - factor) * (total / area as f64) as f32 }
            }
        };
    }
    let contrasts = steps.iter().filter(|step| matches!(step, Step::Blend { .. })).count();
    assert!(contrasts <= 1, "expected one contrast at most, found {contrasts}");
    let finish = Finish::new(recipe);
    // SAFETY: the level is available; image and planes have 3 * area bytes and floats.
    unsafe { dispatch_pixels(level, Apply { image, recipe, steps, finish, out }) }
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

/// Adds up the grey image as it is after some steps. Mirroring does not change it, maps come later.
struct GreySum<'a> {
    image: Rgb<'a>,
    steps: &'a [Step],
    total: &'a mut f64,
}

/// Pixels summed in f32 lanes before they go to f64, so that the sum is exact to a few ulp at any size.
const SPAN: usize = 2048;

impl PixelKernel for GreySum<'_> {
    #[inline(always)]
    unsafe fn run<S: Pixels>(self) {
        // SAFETY: `S` is available; a span lies inside the image.
        unsafe {
            for span in self.image.pixels.chunks(3 * SPAN) {
                let n = span.len() / 3;
                let fetch = Straight { row: span.as_ptr() };
                let mut sum = S::splat(0.0);
                let mut x = 0;
                while x + S::LANES <= n {
                    let (rgb, _) = fetch.fetch::<S>(x);
                    sum = S::add(sum, grey::<S>(run_steps::<S, 1>([rgb], self.steps)[0]));
                    x += S::LANES;
                }
                let mut lanes = [0.0_f32; 16];
                S::store(lanes.as_mut_ptr(), sum);
                *self.total += f64::from(lanes[..S::LANES].iter().sum::<f32>());
                if x < n {
                    let (rgb, _) = fetch.fetch_tail::<S>(x, n - x);
                    let last = grey::<S>(run_steps::<S, 1>([rgb], self.steps)[0]);
                    S::store(lanes.as_mut_ptr(), last);
                    *self.total += f64::from(lanes[..n - x].iter().sum::<f32>());
                }
            }
        }
    }
}

struct Apply<'a> {
    image: Rgb<'a>,
    recipe: &'a Recipe<'a>,
    steps: &'a [Step],
    finish: Finish,
    out: &'a mut [f32],
}

impl PixelKernel for Apply<'_> {
    #[inline(always)]
    unsafe fn run<S: Pixels>(self) {
        let Rgb { pixels, width, height } = self.image;
        let area = width * height;
        let mut row = Row { out: self.out.as_mut_ptr(), area, steps: self.steps, finish: &self.finish };
        // SAFETY: `S` is available; row `y` has `width` pixels in the image and in each of the three planes.
        unsafe {
            if !self.recipe.maps.is_empty() {
                let mapped = Mapped::new(self.image, self.recipe);
                for y in 0..height {
                    row.run::<S, _>(&mapped.row(y), width);
                    row.out = row.out.add(width);
                }
            } else if self.recipe.mirrored {
                for y in 0..height {
                    row.run::<S, _>(&Mirrored { row: pixels.as_ptr().add(3 * y * width), width }, width);
                    row.out = row.out.add(width);
                }
            } else {
                // Without a mirror or a map the image is one long row.
                row.run::<S, _>(&Straight { row: pixels.as_ptr() }, area);
            }
        }
    }
}

/// Pixels of a row to the three planes, of which `out` is the first's.
struct Row<'a> {
    out: *mut f32,
    area: usize,
    steps: &'a [Step],
    finish: &'a Finish,
}

impl Row<'_> {
    /// # Safety
    /// `S` available; `n` pixels to fetch, and room for them from `out` on in every plane.
    #[inline(always)]
    unsafe fn run<S: Pixels, F: Fetch>(&self, fetch: &F, n: usize) {
        // SAFETY: the caller's promise; the tail goes through an array.
        unsafe {
            let mut x = 0;
            // Two vectors at a time: hue is a long chain of dependent operations.
            while x + 2 * S::LANES <= n {
                let (first, keep_first) = fetch.fetch::<S>(x);
                let (second, keep_second) = fetch.fetch::<S>(x + S::LANES);
                let [first, second] = run_steps::<S, 2>([first, second], self.steps);
                let first = self.finished::<S, F>(first, keep_first);
                let second = self.finished::<S, F>(second, keep_second);
                for c in 0..3 {
                    S::store(self.out.add(c * self.area + x), first[c]);
                    S::store(self.out.add(c * self.area + x + S::LANES), second[c]);
                }
                x += 2 * S::LANES;
            }
            while x < n {
                let here = (n - x).min(S::LANES);
                let (rgb, keep) =
                    if here == S::LANES { fetch.fetch::<S>(x) } else { fetch.fetch_tail::<S>(x, here) };
                let [rgb] = run_steps::<S, 1>([rgb], self.steps);
                let rgb = self.finished::<S, F>(rgb, keep);
                let mut lanes = [0.0_f32; 16];
                for (c, &channel) in rgb.iter().enumerate() {
                    S::store(lanes.as_mut_ptr(), channel);
                    lanes.as_ptr().copy_to_nonoverlapping(self.out.add(c * self.area + x), here);
                }
                x += here;
            }
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
