//! The last sieve: two thumbnails are laid over each other, and their fine detail is compared where they overlap.
//!
//! A crop of a photo is the photo shifted and scaled by a few per cent, which is a pixel or two here and enough to
//! spoil a plain comparison. Shift, scale, brightness and contrast are found together by Gauss-Newton steps on the
//! squared difference (Lucas and Kanade, "An iterative image registration technique", IJCAI 1981), first at 16x16, then
//! at 32x32. Fine detail is what a blur takes away: smooth shading is much the same on every face.
//!
//! In that correlation a pixel counts by the square of its contrast. Of a dark face on a plain ground it sees the
//! outline and little else, and outlines are much alike. So pairs that pass are compared once more with the detail
//! divided by its own strength nearby (local contrast normalisation; Jarrett et al., "What is the best multi-stage
//! architecture for object recognition?", ICCV 2009): eyes and mouth then count as much as the outline.

use super::{
    Facing, MIN_SIMILARITY,
    fingerprint::{SIDE, Thumbnail},
};

/// Steps at 16x16, then at 32x32.
const STEPS: [usize; 2] = [3, 2];
/// After the steps at 16x16, pairs less alike than this are given up: it saves two thirds of the time.
const MIN_COARSE_CORRELATION: f32 = 0.85;
/// Blurs that take detail away, and blurs over which its strength is taken when that is divided out. Evened detail is
/// coarser: FairFace's right pairs are then further from the wrong ones than with four blurs.
const DETAIL_BLURS: usize = 4;
const EVEN_DETAIL_BLURS: usize = 8;
const STRENGTH_BLURS: usize = 2;
/// Detail weaker than this many grey levels is rounding and JPEG's noise, and is not made strong.
const NOISE: f32 = 2.0;
/// Steps on evened detail: shading and the outline no longer hold the two pictures where they fit each other best.
const EVEN_STEPS: usize = 2;
/// Evened detail must be as alike as this: see [`MIN_SIMILARITY`] for where right and wrong pairs lie.
const MIN_EVEN_SIMILARITY: f32 = 0.725;
/// The largest shift in pixels of 32x32, and the largest change of scale; beyond it another picture is being bent.
const MAX_SHIFT: f32 = 4.0;
const MAX_SCALE: f32 = 0.2;

/// A first image that others are compared with.
pub(super) struct Aligner {
    plane: Plane,
    coarse: Plane,
    fine: Plane,
    detail: Plane,
}

impl Aligner {
    pub(super) fn new(thumbnail: &Thumbnail) -> Self {
        let plane = Plane::new(thumbnail, Facing::Same);
        Aligner {
            coarse: plane.halved().blurred(),
            detail: plane.detail(DETAIL_BLURS),
            fine: plane.blurred(),
            plane,
        }
    }

    /// The correlation of fine detail, -1 to 1; 0 for pairs that were given up.
    pub(super) fn similarity(&self, other: &Thumbnail, facing: Facing) -> f32 {
        let other = Plane::new(other, facing);
        let coarse = Sloped::new(other.halved().blurred());
        let mut warp = Warp::default();
        for _ in 0..STEPS[0] {
            warp.step(&self.coarse, &coarse);
        }
        if warp.correlation(&self.coarse, &coarse.plane) < MIN_COARSE_CORRELATION {
            return 0.0;
        }
        warp.shift = warp.shift.map(|shift| 2.0 * shift);
        let fine = Sloped::new(other.blurred());
        for _ in 0..STEPS[1] {
            warp.step(&self.fine, &fine);
        }
        let similarity = warp.correlation(&self.detail, &other.detail(DETAIL_BLURS));
        if similarity >= MIN_SIMILARITY && self.even_similarity(&other, warp) < MIN_EVEN_SIMILARITY {
            return 0.0;
        }
        similarity
    }

    /// The correlation of evened detail. One pair in a thousand gets this far, so nothing is kept for it.
    fn even_similarity(&self, other: &Plane, mut warp: Warp) -> f32 {
        let (first, other) = (self.plane.even_detail(), Sloped::new(other.even_detail()));
        for _ in 0..EVEN_STEPS {
            warp.step(&first, &other);
        }
        warp.correlation(&first, &other.plane)
    }
}

/// A square grey image.
#[derive(Clone)]
struct Plane {
    side: usize,
    values: Vec<f32>,
}

impl Plane {
    fn new(thumbnail: &Thumbnail, facing: Facing) -> Self {
        let mut values: Vec<f32> = thumbnail.iter().map(|&grey| f32::from(grey)).collect();
        if facing == Facing::Mirrored {
            values.chunks_exact_mut(SIDE).for_each(<[f32]>::reverse);
        }
        Plane { side: SIDE, values }
    }

    fn halved(&self) -> Self {
        let side = self.side / 2;
        let mean = |i: usize| {
            let at = 2 * (i / side) * self.side + 2 * (i % side);
            let sum = self.values[at] + self.values[at + 1];
            0.25 * (sum + self.values[at + self.side] + self.values[at + self.side + 1])
        };
        Plane { side, values: (0..side * side).map(mean).collect() }
    }

    /// By (1, 2, 1) / 4 along both axes; the border is repeated.
    fn blurred(&self) -> Self {
        let side = self.side;
        let along = |values: &[f32], stride: usize, across: usize| -> Vec<f32> {
            let mut out = vec![0.0; values.len()];
            for line in 0..side {
                let at = |i: usize| line * across + i * stride;
                for i in 0..side {
                    let (before, after) = (at(i.saturating_sub(1)), at((i + 1).min(side - 1)));
                    out[at(i)] = 0.25 * (values[before] + values[after]) + 0.5 * values[at(i)];
                }
            }
            out
        };
        let rows = along(&self.values, 1, side);
        Plane { side, values: along(&rows, side, 1) }
    }

    fn blurred_times(&self, times: usize) -> Self {
        (0..times).fold(self.clone(), |plane, _| plane.blurred())
    }

    /// What some blurs take away.
    fn detail(&self, blurs: usize) -> Self {
        let smooth = self.blurred_times(blurs).values;
        let values = self.values.iter().zip(smooth).map(|(value, smooth)| value - smooth).collect();
        Plane { side: self.side, values }
    }

    /// Detail divided by its root mean square nearby.
    fn even_detail(&self) -> Self {
        let detail = self.detail(EVEN_DETAIL_BLURS);
        let squares =
            Plane { side: self.side, values: detail.values.iter().map(|value| value * value).collect() };
        let strength = squares.blurred_times(STRENGTH_BLURS).values;
        let even = |(value, square): (&f32, f32)| value / (square + NOISE * NOISE).sqrt();
        Plane { side: self.side, values: detail.values.iter().zip(strength).map(even).collect() }
    }

    /// Differences between neighbours along x or, by a stride of a row, along y.
    fn slope(&self, axis: Axis) -> Self {
        let side = self.side;
        let slope = |i: usize| {
            let (at, stride) = match axis {
                Axis::X => (i % side, 1),
                Axis::Y => (i / side, side),
            };
            let (before, after) = (at.saturating_sub(1), (at + 1).min(side - 1));
            let line = i - at * stride;
            let change = self.values[line + after * stride] - self.values[line + before * stride];
            change / (after - before) as f32
        };
        Plane { side, values: (0..side * side).map(slope).collect() }
    }

    /// Four pixels around a place, and how much the right and the lower ones count; `None` outside.
    fn place(&self, x: f32, y: f32) -> Option<Between> {
        let last = (self.side - 1) as f32;
        if !(0.0..=last).contains(&x) || !(0.0..=last).contains(&y) {
            return None;
        }
        let (left, top) = ((x as usize).min(self.side - 2), (y as usize).min(self.side - 2));
        let corner = top * self.side + left;
        Some(Between { corner, right: x - left as f32, lower: y - top as f32 })
    }

    /// The value between pixels, bilinear.
    fn at(&self, place: Between) -> f32 {
        let row = |i: usize| self.values[i] + place.right * (self.values[i + 1] - self.values[i]);
        let upper = row(place.corner);
        upper + place.lower * (row(place.corner + self.side) - upper)
    }
}

#[derive(Clone, Copy)]
enum Axis {
    X,
    Y,
}

/// A place between four pixels.
#[derive(Clone, Copy)]
struct Between {
    /// The upper left one.
    corner: usize,
    right: f32,
    lower: f32,
}

/// An image that is fitted, and its slopes.
struct Sloped {
    plane: Plane,
    along_x: Plane,
    along_y: Plane,
}

impl Sloped {
    fn new(plane: Plane) -> Self {
        Sloped { along_x: plane.slope(Axis::X), along_y: plane.slope(Axis::Y), plane }
    }
}

/// Where a pixel of the first image lies in the other: scaled about the middle, then shifted.
#[derive(Debug, Clone, Copy, Default)]
struct Warp {
    shift: [f32; 2],
    scale: f32,
}

impl Warp {
    /// Where a pixel of the first image lies in the other.
    fn place(&self, other: &Plane, x: f32, y: f32) -> Option<Between> {
        let middle = (other.side - 1) as f32 / 2.0;
        other.place(
            x + self.shift[0] + self.scale * (x - middle),
            y + self.shift[1] + self.scale * (y - middle),
        )
    }

    /// One Gauss-Newton step: `other(warp(x)) = contrast * first(x) + brightness`, made linear in shift and scale.
    fn step(&mut self, first: &Plane, other: &Sloped) {
        let side = first.side;
        let middle = (side - 1) as f32 / 2.0;
        // Normal equations of (shift x, shift y, scale, contrast, brightness), and their right side.
        let mut equations = [[0.0_f32; 6]; 5];
        for i in 0..side * side {
            let (x, y) = ((i % side) as f32, (i / side) as f32);
            let Some(place) = self.place(&other.plane, x, y) else { continue };
            let (along_x, along_y) = (other.along_x.at(place), other.along_y.at(place));
            let by_scale = along_x * (x - middle) + along_y * (y - middle);
            let row = [-along_x, -along_y, -by_scale, first.values[i], 1.0, other.plane.at(place)];
            for (j, equation) in equations.iter_mut().enumerate() {
                for (sum, factor) in equation.iter_mut().zip(row) {
                    *sum += row[j] * factor;
                }
            }
        }
        let Some(solution) = solve(equations.map(|equation| equation.map(f64::from))) else { return };
        let max_shift = MAX_SHIFT * side as f32 / SIDE as f32;
        for (shift, step) in self.shift.iter_mut().zip(solution) {
            *shift = (*shift + step as f32).clamp(-max_shift, max_shift);
        }
        self.scale = (self.scale + solution[2] as f32).clamp(-MAX_SCALE, MAX_SCALE);
    }

    /// Pearson's correlation of the two images where they overlap; 0 where one of them has nothing to see there.
    fn correlation(&self, first: &Plane, other: &Plane) -> f32 {
        let side = first.side;
        let values = (0..side * side).filter_map(|i| {
            let place = self.place(other, (i % side) as f32, (i / side) as f32)?;
            Some((f64::from(first.values[i]), f64::from(other.at(place))))
        });
        let mut sums = [0.0; 6];
        for (a, b) in values {
            for (sum, term) in sums.iter_mut().zip([1.0, a, b, a * a, b * b, a * b]) {
                *sum += term;
            }
        }
        let [n, a, b, aa, bb, ab] = sums;
        let spread = (n * aa - a * a) * (n * bb - b * b);
        if spread > 0.0 { ((n * ab - a * b) / spread.sqrt()) as f32 } else { 0.0 }
    }
}

/// Solves five equations by Gauss-Jordan elimination; `None` if they are not independent.
fn solve(mut equations: [[f64; 6]; 5]) -> Option<[f64; 5]> {
    for column in 0..5 {
        let pivot =
            (column..5).max_by(|&a, &b| equations[a][column].abs().total_cmp(&equations[b][column].abs()))?;
        equations.swap(column, pivot);
        let pivot = equations[column];
        if pivot[column].abs() < 1e-6 {
            return None;
        }
        for (row, equation) in equations.iter_mut().enumerate() {
            if row != column {
                let factor = equation[column] / pivot[column];
                for (value, pivot) in equation.iter_mut().zip(pivot) {
                    *value -= factor * pivot;
                }
            }
        }
    }
    Some(std::array::from_fn(|i| equations[i][5] / equations[i][i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth picture on an endless plane, seen through a window.
    fn picture(scale: f32, shift: [f32; 2]) -> Thumbnail {
        std::array::from_fn(|i| {
            let middle = (SIDE - 1) as f32 / 2.0;
            let x = (i % SIDE) as f32 - middle;
            let y = (i / SIDE) as f32 - middle;
            let (x, y) = (x * scale + shift[0], y * scale + shift[1]);
            let waves = (0.31 * x + 0.2 * y).sin() + (0.5 * y - 0.23 * x + 1.0).sin() + (0.9 * x).cos();
            (128.0 + 30.0 * waves + 6.0 * (1.3 * y + 0.4 * x).sin()) as u8
        })
    }

    #[test]
    fn shift_and_scale_are_found() {
        let (first, other) = (picture(1.0, [0.0; 2]), picture(0.94, [1.1, -0.8]));
        let (first, other) = (Plane::new(&first, Facing::Same), Plane::new(&other, Facing::Same));
        let mut warp = Warp::default();
        for _ in 0..8 {
            warp.step(&first.blurred(), &Sloped::new(other.blurred()));
        }
        // The other shows at u what the first shows at 0.94 u + shift.
        assert!((warp.scale - (1.0 / 0.94 - 1.0)).abs() < 0.005, "{warp:?}");
        assert!((warp.shift[0] + 1.1 / 0.94).abs() < 0.1, "{warp:?}");
        assert!((warp.shift[1] - 0.8 / 0.94).abs() < 0.1, "{warp:?}");
        assert!(warp.correlation(&first.detail(DETAIL_BLURS), &other.detail(DETAIL_BLURS)) > 0.95);
    }
}
