//! Separable units and the stem over pixels against naive ones in `f64`.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Direct, assert_close, noise, wide};
use ff_kernels::cpu::conv::separable::{Ending, PaddedPixels, PixelStem, Separable, Workspace};
use ff_kernels::{Level, MapShape};
use proptest::prelude::*;

const ENDINGS: [Ending; 3] = [Ending::Plain, Ending::Relu, Ending::ReluPool];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn units_equal_naive(
        height in 1usize..7, width in 1usize..16, inputs in 1usize..4, outputs in 1usize..5, seed: u64,
    ) {
        for level in Level::available() {
            unit_case(level, (2 * height, 2 * width), (16 * inputs, 16 * outputs), seed);
        }
    }

    #[test]
    fn units_on_a_stem_equal_naive(
        height in 1usize..30, width in 1usize..50, beyond in 0usize..4, outputs in 1usize..3, seed: u64,
    ) {
        for level in Level::available() {
            stem_case(level, (height, width), beyond, 16 * outputs, seed);
        }
    }
}

/// Few enough steps for Miri and sanitizers: `cargo xtask sanitize`.
#[test]
fn small_units_equal_naive() {
    for level in Level::available() {
        unit_case(level, (2, 8), (16, 16), 7);
        stem_case(level, (3, 14), 1, 16, 7);
    }
}

/// The naive unit: two convolutions by `Direct`, one group after the other in the second.
struct Naive {
    pointwise: Vec<f32>,
    pointwise_bias: Vec<f32>,
    depthwise: Vec<f32>,
    depthwise_bias: Vec<f32>,
}

impl Naive {
    fn drawn((inputs, outputs): (usize, usize), seed: u64) -> Self {
        Naive {
            pointwise: noise(inputs * outputs, seed ^ 1),
            pointwise_bias: noise(outputs, seed ^ 2),
            depthwise: noise(9 * outputs, seed ^ 3),
            depthwise_bias: noise(outputs, seed ^ 4),
        }
    }

    fn unit(&self) -> Separable {
        Separable::new(&self.pointwise, &self.pointwise_bias, &self.depthwise, &self.depthwise_bias)
    }

    fn forward(&self, map: &[f64], (height, width): (usize, usize), ending: Ending) -> Vec<f64> {
        let outputs = self.pointwise_bias.len();
        let input = MapShape { batch: 1, height, width, channels: self.pointwise.len() / outputs };
        let between = Direct { input, outputs, kernel: 1, stride: 1 }.forward(map, &wide(&self.pointwise));
        let between = with_bias(between, &self.pointwise_bias);
        let mut out = vec![0.0; between.len()];
        for c in 0..outputs {
            let plane: Vec<f64> = between.iter().skip(c).step_by(outputs).copied().collect();
            let input = MapShape { batch: 1, height, width, channels: 1 };
            let weights = wide(&self.depthwise[c * 9..][..9]);
            let sums = Direct { input, outputs: 1, kernel: 3, stride: 1 }.forward(&plane, &weights);
            out.iter_mut().skip(c).step_by(outputs).zip(sums).for_each(|(to, sum)| *to = sum);
        }
        let mut out = with_bias(out, &self.depthwise_bias);
        if ending != Ending::Plain {
            out.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        if ending == Ending::ReluPool { pooled(&out, (height, width), outputs) } else { out }
    }
}

fn with_bias(mut map: Vec<f64>, bias: &[f32]) -> Vec<f64> {
    map.iter_mut().enumerate().for_each(|(i, v)| *v += f64::from(bias[i % bias.len()]));
    map
}

fn pooled(map: &[f64], (height, width): (usize, usize), channels: usize) -> Vec<f64> {
    let at = |y: usize, x: usize, c: usize| map[(y * width + x) * channels + c];
    let mut out = Vec::new();
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            out.extend(
                (0..channels)
                    .map(|c| at(y, x, c).max(at(y, x + 1, c)).max(at(y + 1, x, c)).max(at(y + 1, x + 1, c))),
            );
        }
    }
    out
}

fn unit_case(level: Level, size: (usize, usize), channels: (usize, usize), seed: u64) {
    let naive = Naive::drawn(channels, seed);
    let unit = naive.unit();
    let map = noise(size.0 * size.1 * channels.0, seed);
    let mut scratch = Workspace::default();
    for ending in ENDINGS {
        let expected = naive.forward(&wide(&map), size, ending);
        let mut out = vec![f32::NAN; expected.len()];
        unit.forward(level, &map, size, ending, &mut scratch, &mut out);
        assert_close(&format!("{level:?} {size:?} {channels:?} {ending:?}"), &out, &expected, 3e-6);
    }
}

fn stem_case(level: Level, (height, width): (usize, usize), beyond: usize, outputs: usize, seed: u64) {
    let (padded_height, padded_width) =
        ((height + beyond).next_multiple_of(4), (width + beyond).next_multiple_of(4));
    let pixels: Vec<u8> = noise(height * width * 3, seed).iter().map(|v| (v * 127.0 + 128.0) as u8).collect();
    let (weights, bias) = (noise(outputs * 27, seed ^ 5), noise(outputs, seed ^ 6));
    let naive = Naive::drawn((outputs, 16), seed);
    // Three channels with zeros to the right and below.
    let mut map = vec![0.0; padded_height * padded_width * 3];
    for (y, row) in pixels.chunks_exact(width * 3).enumerate() {
        let to = &mut map[y * padded_width * 3..][..width * 3];
        to.iter_mut().zip(row).for_each(|(to, &byte)| *to = f64::from(byte));
    }
    let input = MapShape { batch: 1, height: padded_height, width: padded_width, channels: 3 };
    let stem = Direct { input, outputs, kernel: 3, stride: 2 }.forward(&map, &wide(&weights));
    let mut stem = with_bias(stem, &bias);
    stem.iter_mut().for_each(|v| *v = v.max(0.0));
    let size = (padded_height / 2, padded_width / 2);
    let image = PaddedPixels { pixels: &pixels, width, height, padded_width, padded_height };
    let mut scratch = Workspace::default();
    for ending in ENDINGS {
        let expected = naive.forward(&stem, size, ending);
        let mut out = vec![f32::NAN; expected.len()];
        let stem = PixelStem::new(&weights, &bias);
        naive.unit().forward_pixels(level, &stem, image, ending, &mut scratch, &mut out);
        assert_close(&format!("{level:?} {height}x{width}+{beyond} {ending:?}"), &out, &expected, 3e-6);
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let unit = Naive::drawn((16, 32), 1).unit();
    let (mut scratch, map) = (Workspace::default(), noise(4 * 6 * 16, 2));
    let mut run = |map: &[f32], size, ending, out: &mut [f32]| {
        let call = || unit.forward(Level::best(), map, size, ending, &mut scratch, out);
        catch_unwind(AssertUnwindSafe(call)).is_err()
    };
    let mut out = vec![0.0; 4 * 6 * 32];
    assert!(!run(&map, (4, 6), Ending::Relu, &mut out));
    assert!(run(&map[1..], (4, 6), Ending::Relu, &mut out), "a map that is too short");
    assert!(run(&map, (4, 6), Ending::Relu, &mut out[1..]), "an output that is too short");
    assert!(run(&map, (8, 3), Ending::ReluPool, &mut out), "an odd side before a pool");
    assert!(run(&[], (0, 6), Ending::Relu, &mut out), "no pixels");
    assert!(run(&map, (usize::MAX, 6), Ending::Relu, &mut out), "a product that wraps");

    fn weights(pointwise: usize, bias: usize, depthwise: usize, last: usize) {
        let [a, b, c, d] = [pointwise, bias, depthwise, last].map(|len| vec![0.0; len]);
        drop(Separable::new(&a, &b, &c, &d));
    }
    let bad: [(&str, fn()); 5] = [
        ("outputs", || weights(16 * 17, 17, 153, 17)),
        ("inputs", || weights(15 * 16, 16, 144, 16)),
        ("depthwise", || weights(256, 16, 143, 16)),
        ("bias", || weights(256, 16, 144, 15)),
        ("stem", || drop(PixelStem::new(&[0.0; 27 * 15], &[0.0; 16]))),
    ];
    for (what, call) in bad {
        assert!(catch_unwind(call).is_err(), "{what}");
    }

    let (stem, pixels) = (PixelStem::new(&vec![0.0; 27 * 16], &[0.0; 16]), [0; 5 * 7 * 3]);
    let image = PaddedPixels { pixels: &pixels, width: 7, height: 5, padded_width: 8, padded_height: 8 };
    let mut run = |stem: &PixelStem, image: PaddedPixels<'_>| {
        let call = || unit.forward_pixels(Level::best(), stem, image, Ending::Relu, &mut scratch, &mut out);
        catch_unwind(AssertUnwindSafe(call)).is_err()
    };
    assert!(!run(&stem, image));
    assert!(run(&stem, PaddedPixels { width: 8, ..image }), "pixels that are too few");
    assert!(run(&stem, PaddedPixels { padded_width: 6, ..image }), "padding that is less than the image");
    assert!(run(&stem, PaddedPixels { padded_height: 9, ..image }), "an odd padded side");
    assert!(run(&PixelStem::new(&vec![0.0; 27 * 32], &[0.0; 32]), image), "a stem of other channels");
}
