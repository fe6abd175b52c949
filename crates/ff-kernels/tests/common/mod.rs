//! Naive references in `f64`, and helpers to draw and compare.
#![allow(dead_code, missing_docs, clippy::allow_attributes, reason = "every test binary uses its own part")]

use ff_kernels::MapShape;

/// Deterministic noise in -1..1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
        })
        .collect()
}

/// A convolution with padding of half the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Direct {
    pub input: MapShape,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
}

impl Direct {
    pub fn output(&self) -> MapShape {
        let out = |n: usize| (n - 1) / self.stride + 1;
        MapShape {
            height: out(self.input.height),
            width: out(self.input.width),
            channels: self.outputs,
            ..self.input
        }
    }

    /// Calls `visit(input index, weight index, output index)` for every product of the convolution.
    fn visit(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (i, o, k) = (self.input, self.output(), self.kernel);
        for b in 0..i.batch {
            for oy in 0..o.height {
                for ox in 0..o.width {
                    for r in 0..k {
                        for s in 0..k {
                            let (y, x) = (oy * self.stride + r, ox * self.stride + s);
                            if y < k / 2 || x < k / 2 || y - k / 2 >= i.height || x - k / 2 >= i.width {
                                continue;
                            }
                            let from = ((b * i.height + y - k / 2) * i.width + x - k / 2) * i.channels;
                            let to = ((b * o.height + oy) * o.width + ox) * o.channels;
                            for n in 0..o.channels {
                                for c in 0..i.channels {
                                    visit(from + c, ((n * i.channels + c) * k + r) * k + s, to + n);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    pub fn forward(&self, x: &[f64], w: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.output().len()];
        self.visit(|i, k, o| y[o] += x[i] * w[k]);
        y
    }

    pub fn input_gradient(&self, dy: &[f64], w: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; self.input.len()];
        self.visit(|i, k, o| dx[i] += dy[o] * w[k]);
        dx
    }

    pub fn weight_gradient(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        let mut dw = vec![0.0; self.outputs * self.input.channels * self.kernel * self.kernel];
        self.visit(|i, k, o| dw[k] += x[i] * dy[o]);
        dw
    }
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Largest difference over the largest expected magnitude.
pub fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs());
    worst.fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) }) / scale
}

#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    let error = error(found, expected);
    assert!(error <= tolerance, "{what}: relative error {error:e}, allowed {tolerance:e}");
}

/// `relu(x * scale + shift)` per channel.
pub fn bn_relu(x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f64> {
    let c = scale.len();
    let y =
        |(i, &x): (usize, &f32)| (f64::from(x) * f64::from(scale[i % c]) + f64::from(shift[i % c])).max(0.0);
    x.iter().enumerate().map(y).collect()
}
