//! Similarities of the plane, u = a q + b with complex numbers: rotation and scale in `a`, shift in `b`.

use crate::photo::Point;

/// A similarity that maps one picture's places to another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Similarity {
    /// Real and imaginary part of the factor.
    pub a: (f64, f64),
    /// The shift.
    pub b: (f64, f64),
}

impl Similarity {
    /// The one that maps `from` to `to` with the least squared error; its scale is 0 or not finite where the points
    /// allow none. (Umeyama 1991, in closed form for the plane without reflections.)
    pub fn fit(from: &[(f64, f64)], to: &[(f64, f64)]) -> Self {
        let mean = |points: &[(f64, f64)]| {
            let n = points.len() as f64;
            let sum = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
            (sum.0 / n, sum.1 / n)
        };
        let (from_mean, to_mean) = (mean(from), mean(to));
        let (mut re, mut im, mut norm) = (0.0, 0.0, 0.0);
        for (q, u) in from.iter().zip(to) {
            let (qx, qy) = (q.0 - from_mean.0, q.1 - from_mean.1);
            let (ux, uy) = (u.0 - to_mean.0, u.1 - to_mean.1);
            re += ux * qx + uy * qy;
            im += uy * qx - ux * qy;
            norm += qx * qx + qy * qy;
        }
        let a = (re / norm, im / norm);
        let b = (
            to_mean.0 - a.0 * from_mean.0 + a.1 * from_mean.1,
            to_mean.1 - a.0 * from_mean.1 - a.1 * from_mean.0,
        );
        Similarity { a, b }
    }

    /// As [`Similarity::fit`], from one list of places to another.
    pub fn between(from: &[Point; 5], to: &[Point; 5]) -> Self {
        Self::fit(&from.map(Point::exact), &to.map(Point::exact))
    }

    /// Where it maps a point.
    pub fn apply(&self, q: Point) -> Point {
        let (x, y) = (f64::from(q.x), f64::from(q.y));
        let (re, im) = self.a;
        Point::new((re * x - im * y + self.b.0) as f32, (im * x + re * y + self.b.1) as f32)
    }

    /// The one with this factor that maps `from` to `to`.
    pub fn around(a: (f64, f64), from: Point, to: Point) -> Self {
        let turned = Similarity { a, b: (0.0, 0.0) }.apply(from).exact();
        let (x, y) = to.exact();
        Similarity { a, b: (x - turned.0, y - turned.1) }
    }

    /// The same from places that are first stretched by `scale` and moved right and down by `shift`.
    pub fn after(&self, scale: f32, shift: f32) -> Self {
        let (re, im) = self.a;
        let scale = f64::from(scale);
        Similarity { a: (re * scale, im * scale), b: self.apply(Point::new(shift, shift)).exact() }
    }

    /// By how much it stretches.
    pub fn scale(&self) -> f32 {
        self.a.0.hypot(self.a.1) as f32
    }

    /// By how many degrees it turns clockwise (y points down), -180 to 180.
    pub fn roll(&self) -> f32 {
        self.a.1.atan2(self.a.0).to_degrees() as f32
    }
}
