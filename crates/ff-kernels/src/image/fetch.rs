//! Where the pixels of an output row come from: along the row, against it, or through maps.
//!
//! Maps repeat the arithmetic of `ff_data::transforms` operation by operation, without fused multiply-adds: at a scale
//! such as 1.07 whole rows of source positions are ties, and any other rounding would decide them otherwise. Maps one
//! after the other are nearest of nearest: the second takes the first's rounded position.

use super::{InverseMap, Recipe, Rgb};
use crate::cpu::simd::Pixels;

/// A source of pixels in `[0,1]`, and 1 where there is one, 0 outside the image.
pub(super) trait Fetch {
    /// Whether a pixel may lie outside the image.
    const HAS_OUTSIDE: bool;

    /// `LANES` pixels from column `x` on.
    ///
    /// # Safety
    /// `S` available; the row has these pixels.
    unsafe fn fetch<S: Pixels>(&self, x: usize) -> ([S::V; 3], S::V);

    /// The last `n < LANES` pixels of a row, from column `x` on; the other lanes have no particular values.
    ///
    /// # Safety
    /// `S` available; the row has these pixels.
    unsafe fn fetch_tail<S: Pixels>(&self, x: usize, n: usize) -> ([S::V; 3], S::V);
}

/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn unit<S: Pixels>(rgb: [S::V; 3]) -> ([S::V; 3], S::V) {
    // SAFETY: `S` is available.
    unsafe {
        let scale = S::splat(1.0 / 255.0);
        ([S::mul(rgb[0], scale), S::mul(rgb[1], scale), S::mul(rgb[2], scale)], S::splat(1.0))
    }
}

/// Along a row of pixels.
pub(super) struct Straight {
    pub(super) row: *const u8,
}

impl Fetch for Straight {
    const HAS_OUTSIDE: bool = false;

    #[inline(always)]
    unsafe fn fetch<S: Pixels>(&self, x: usize) -> ([S::V; 3], S::V) {
        // SAFETY: the row has `LANES` pixels from `x` on.
        unsafe { unit::<S>(S::rgb(self.row.add(3 * x))) }
    }

    #[inline(always)]
    unsafe fn fetch_tail<S: Pixels>(&self, x: usize, n: usize) -> ([S::V; 3], S::V) {
        let mut pixels = [0_u8; 48];
        // SAFETY: the row has `n` pixels from `x` on, and 48 bytes are a vector of pixels at every level.
        unsafe {
            self.row.add(3 * x).copy_to_nonoverlapping(pixels.as_mut_ptr(), 3 * n);
            unit::<S>(S::rgb(pixels.as_ptr()))
        }
    }
}

/// Against a row of pixels.
pub(super) struct Mirrored {
    pub(super) row: *const u8,
    pub(super) width: usize,
}

impl Fetch for Mirrored {
    const HAS_OUTSIDE: bool = false;

    #[inline(always)]
    unsafe fn fetch<S: Pixels>(&self, x: usize) -> ([S::V; 3], S::V) {
        // SAFETY: column `x + LANES - 1` comes from `width - x - LANES`, which is in the row.
        unsafe { unit::<S>(S::rgb_mirrored(self.row.add(3 * (self.width - x - S::LANES)))) }
    }

    #[inline(always)]
    unsafe fn fetch_tail<S: Pixels>(&self, x: usize, n: usize) -> ([S::V; 3], S::V) {
        let mut pixels = [0_u8; 48];
        // SAFETY: the last columns come from the first `n` pixels; they are put at the end of a vector of pixels.
        unsafe {
            let at = pixels.as_mut_ptr().add(3 * (S::LANES - n));
            self.row.add(3 * (self.width - x - n)).copy_to_nonoverlapping(at, 3 * n);
            unit::<S>(S::rgb_mirrored(pixels.as_ptr()))
        }
    }
}

/// Along a row of three planes in `[0,1]`.
pub(super) struct Planes {
    pub(super) row: *const f32,
    pub(super) area: usize,
}

impl Fetch for Planes {
    const HAS_OUTSIDE: bool = false;

    #[inline(always)]
    unsafe fn fetch<S: Pixels>(&self, x: usize) -> ([S::V; 3], S::V) {
        // SAFETY: the row has `LANES` pixels from `x` on in each plane.
        unsafe {
            let row = self.row.add(x);
            let rgb = [S::load(row), S::load(row.add(self.area)), S::load(row.add(2 * self.area))];
            (rgb, S::splat(1.0))
        }
    }

    #[inline(always)]
    unsafe fn fetch_tail<S: Pixels>(&self, x: usize, n: usize) -> ([S::V; 3], S::V) {
        let mut pixels = [[0.0_f32; 16]; 3];
        // SAFETY: the row has `n` pixels from `x` on in each plane, fewer than a vector.
        unsafe {
            for (c, lanes) in pixels.iter_mut().enumerate() {
                self.row.add(c * self.area + x).copy_to_nonoverlapping(lanes.as_mut_ptr(), n);
            }
            let [r, g, b] = &pixels;
            ([S::load(r.as_ptr()), S::load(g.as_ptr()), S::load(b.as_ptr())], S::splat(1.0))
        }
    }
}

/// Through one or two maps.
pub(super) struct Mapped<'a> {
    image: Rgb<'a>,
    mirrored: bool,
    /// The map applied last comes first: it is the one that an output pixel goes through first.
    maps: [InverseMap; 2],
    n_maps: usize,
}

impl<'a> Mapped<'a> {
    pub(super) fn new(image: Rgb<'a>, recipe: &Recipe<'_>) -> Self {
        let (half_width, half_height) = (0.5 * image.width as f32, 0.5 * image.height as f32);
        let mut maps = [[0.0; 6]; 2];
        for (to, [xx, xy, x0, yx, yy, y0]) in maps.iter_mut().zip(recipe.maps.iter().rev()) {
            let [xx, xy, x0] = [xx, xy, x0].map(|m| m / half_width);
            let [yx, yy, y0] = [yx, yy, y0].map(|m| m / half_height);
            *to = [xx, xy, x0, yx, yy, y0];
        }
        Mapped { image, mirrored: recipe.mirrored, maps, n_maps: recipe.maps.len() }
    }

    pub(super) fn row(&self, y: usize) -> MappedRow<'_> {
        MappedRow { maps: self, y: y as f32 }
    }
}

/// A row of the output.
pub(super) struct MappedRow<'a> {
    maps: &'a Mapped<'a>,
    y: f32,
}

const COLUMNS: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Half to even: beyond 2^23 f32 has no fraction bits left, so the addition rounds.
///
/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn round<S: Pixels>(x: S::V) -> S::V {
    // SAFETY: `S` is available.
    unsafe {
        let big = S::splat(1.5 * (1 << 23) as f32);
        S::sub(S::add(x, big), big)
    }
}

/// One coordinate of a map's source position, in whole pixels. A function and not a closure: closures are not compiled
/// for the instruction set.
///
/// # Safety
/// `S` available.
#[inline(always)]
unsafe fn along<S: Pixels>([x, y]: [S::V; 2], [mx, my, m0]: [f32; 3], half_extent: S::V) -> S::V {
    // SAFETY: `S` is available.
    unsafe {
        let sum = S::add(S::mul(x, S::splat(mx)), S::mul(y, S::splat(my)));
        let sum = S::add(S::add(sum, S::splat(m0)), S::splat(1.0));
        round::<S>(S::sub(S::mul(sum, half_extent), S::splat(0.5)))
    }
}

impl Fetch for MappedRow<'_> {
    const HAS_OUTSIDE: bool = true;

    #[inline(always)]
    unsafe fn fetch<S: Pixels>(&self, x: usize) -> ([S::V; 3], S::V) {
        let Mapped { image, mirrored, maps, n_maps } = self.maps;
        let (width, height) = (image.width as f32, image.height as f32);
        // SAFETY: `S` is available; positions are clamped into the image. An image of one pixel, too short to be
        // read four bytes at a time, is copied.
        unsafe {
            let (zero, one, half) = (S::splat(0.0), S::splat(1.0), S::splat(0.5));
            let (half_width, half_height) = (S::splat(0.5 * width), S::splat(0.5 * height));
            let (last_x, last_y) = (S::splat(width - 1.0), S::splat(height - 1.0));
            let mut from_x = S::add(S::splat(x as f32), S::load(COLUMNS.as_ptr()));
            let mut from_y = S::splat(self.y);
            let mut keep = one;
            for [xx, xy, x0, yx, yy, y0] in &maps[..*n_maps] {
                let px = S::sub(S::add(from_x, half), half_width);
                let py = S::sub(S::add(from_y, half), half_height);
                from_x = along::<S>([px, py], [*xx, *xy, *x0], half_width);
                from_y = along::<S>([px, py], [*yx, *yy, *y0], half_height);
                keep = S::select_ge(from_x, zero, keep, zero);
                keep = S::select_ge(last_x, from_x, keep, zero);
                keep = S::select_ge(from_y, zero, keep, zero);
                keep = S::select_ge(last_y, from_y, keep, zero);
            }
            let from_x = S::min(S::max(from_x, zero), last_x);
            let from_y = S::min(S::max(from_y, zero), last_y);
            let from_x = if *mirrored { S::sub(last_x, from_x) } else { from_x };
            let positions = S::fma(from_y, S::splat(width), from_x);
            let rgb = if image.pixels.len() < 4 {
                let pixel = [image.pixels[0], image.pixels[1], image.pixels[2], 0];
                S::rgb_at(pixel.as_ptr(), 4, positions)
            } else {
                S::rgb_at(image.pixels.as_ptr(), image.pixels.len(), positions)
            };
            (unit::<S>(rgb).0, keep)
        }
    }

    #[inline(always)]
    unsafe fn fetch_tail<S: Pixels>(&self, x: usize, _n: usize) -> ([S::V; 3], S::V) {
        // SAFETY: columns beyond the row map into the image as all do.
        unsafe { self.fetch::<S>(x) }
    }
}
