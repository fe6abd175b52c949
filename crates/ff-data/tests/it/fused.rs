//! The fused pass is the reference passes, at every size, for every draw, on every instruction set.

use ff_data::{
    Augment, AugmentSpec, ImageSize, RgbImage, Sampling,
    transforms::{self, AffineSpec, AugmentParams, ColorOp, JitterParams, JitterSpec},
};
use ff_kernels::Level;
use proptest::prelude::*;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::golden;

/// Largest difference of the two paths on one level.
fn difference(level: Level, params: &AugmentParams, image: &RgbImage) -> f32 {
    let size = ImageSize { width: image.width, height: image.height };
    let mut expected = vec![0.0; image.pixels.len()];
    transforms::to_planes(image, &mut expected);
    transforms::apply(params, &mut expected, size, &mut Vec::new());
    transforms::normalize(&mut expected);
    let mut found = vec![f32::NAN; image.pixels.len()];
    transforms::augment_into_at(level, params, &image.pixels, size, &mut found, &mut Vec::new());
    let differences = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
    // `f32::max` would pass over NaN.
    differences.fold(0.0, |most, d| if d <= most { most } else { d })
}

/// Random pixels, a third of them grey, a third saturated: hue has its edges there.
fn image(width: usize, height: usize, rng: &mut ChaCha8Rng) -> RgbImage {
    let pixel = |_| {
        let [r, g, b, kind] = rng.next_u32().to_le_bytes();
        match kind % 3 {
            0 => [r, r, r],
            1 => [r & 0x80, g & 0x80, b & 0x80].map(|x| if x > 0 { 255 } else { 0 }),
            _ => [r, g, b],
        }
    };
    RgbImage { width, height, pixels: (0..width * height).flat_map(pixel).collect() }
}

/// Stronger than any preset.
const STRONG: AugmentSpec = AugmentSpec {
    hflip_probability: 0.5,
    jitter: Some(JitterSpec { brightness: 0.8, contrast: 0.9, saturation: 1.5, hue: 0.5 }),
    rotation_degrees: Some(50.0),
    affine: Some(AffineSpec { translate: 0.3, scale: (0.6, 1.7) }),
    ..Augment::Faster.spec()
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn fused_is_the_reference(
        width in 1..70usize,
        height in 1..40usize,
        seed: u64,
        keep in prop::array::uniform3(any::<bool>()),
        strong: bool,
        sampling in prop::sample::select(vec![Sampling::Nearest, Sampling::Bilinear]),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let image = image(width, height, &mut rng);
        // Strong operations one after the other multiply what rounding they find by ten and more.
        let (spec, most) = if strong { (STRONG, 5e-5) } else { (Augment::Balanced.spec(), 1e-5) };
        let spec = AugmentSpec {
            jitter: spec.jitter.filter(|_| keep[0]),
            rotation_degrees: spec.rotation_degrees.filter(|_| keep[1]),
            affine: spec.affine.filter(|_| keep[2]),
            ..spec.with_sampling(sampling)
        };
        let params = spec.draw(&mut rng, ImageSize { width, height });
        for level in Level::available() {
            let difference = difference(level, &params, &image);
            prop_assert!(difference <= most, "{level:?} differs by {difference}: {params:?}");
        }
    }
}

/// The presets at sizes that are trained on, in every order of the colours.
#[test]
fn presets_agree_at_full_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut most = 0.0_f32;
    for round in 0..60 {
        let side = if round < 48 { 224 } else { [64, 96, 320][round % 3] };
        let image = image(side, side, &mut rng);
        let params = Augment::ALL[round % 4].spec().draw(&mut rng, ImageSize::square(side).unwrap());
        for level in Level::available() {
            most = most.max(difference(level, &params, &image));
        }
    }
    eprintln!("largest difference {most:.1e}");
    assert!(most <= 1e-5, "differs by {most}");
}

/// The golden images of torchvision, through the fused pass.
#[test]
fn fused_agrees_with_torchvision() {
    let Some(golden) = golden("augment_golden.safetensors") else { return };
    let image = golden.image("image_u8");
    let none = AugmentParams::default();
    let order = [ColorOp::Brightness, ColorOp::Saturation, ColorOp::Hue, ColorOp::Contrast];
    let identity = JitterParams { order, brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 };
    let jitter = |jitter| AugmentParams { jitter: Some(jitter), ..none };
    let affine = |x, y, scale| AugmentParams {
        affine: Some(transforms::AffineParams { translate: (x, y), scale }),
        ..none
    };
    let rotation = |degrees| AugmentParams { rotation: Some(degrees), ..none };
    let cases = [
        ("brightness_1.13", jitter(JitterParams { brightness: 1.13, ..identity })),
        ("brightness_0.86", jitter(JitterParams { brightness: 0.86, ..identity })),
        ("contrast_1.14", jitter(JitterParams { contrast: 1.14, ..identity })),
        ("contrast_0.87", jitter(JitterParams { contrast: 0.87, ..identity })),
        ("saturation_1.12", jitter(JitterParams { saturation: 1.12, ..identity })),
        ("saturation_0.85", jitter(JitterParams { saturation: 0.85, ..identity })),
        ("hue_0.05", jitter(JitterParams { hue: 0.05, ..identity })),
        ("hue_-0.1", jitter(JitterParams { hue: -0.1, ..identity })),
        (
            "jitter_b1.1_s0.9_h0.03_c1.05",
            jitter(JitterParams { order, brightness: 1.1, contrast: 1.05, saturation: 0.9, hue: 0.03 }),
        ),
        ("hflip", AugmentParams { hflip: true, ..none }),
        ("rotate_7", rotation(7.0)),
        ("rotate_-9.5", rotation(-9.5)),
        ("affine_t(13,-9)_s1.07", affine(13, -9, 1.07)),
        ("affine_t(-20,4)_s0.92", affine(-20, 4, 0.92)),
    ];
    for (name, params) in cases {
        let mut expected = golden.f32s(name);
        transforms::normalize(&mut expected);
        for level in Level::available() {
            let mut found = vec![f32::NAN; expected.len()];
            let spare = &mut Vec::new();
            transforms::augment_into_at(level, &params, &image.pixels, ImageSize::DEFAULT, &mut found, spare);
            let area = expected.len() / 3;
            // 1e-4 in [0,1] is 4.5e-4 normalised.
            let differs = |i: &usize| {
                (0..3).any(|c| {
                    (found[c * area + i] - expected[c * area + i]).abs().partial_cmp(&4.5e-4)
                        != Some(std::cmp::Ordering::Less)
                })
            };
            let pixels = (0..area).filter(differs).count();
            assert_eq!(pixels, 0, "{name} on {level:?}: {pixels} pixels differ");
        }
    }
}

/// Bilinear sampling of a linear ramp is the ramp, wherever the map points inside.
#[test]
fn bilinear_sampling_keeps_ramps() {
    let size = ImageSize { width: 31, height: 17 };
    let ramp = |x: f32, y: f32| 0.01 * x + 0.02 * y;
    let mut planes: Vec<f32> = (0..3 * size.area())
        .map(|i| i % size.area())
        .map(|i| ramp((i % 31) as f32, (i / 31) as f32))
        .collect();
    let params = AugmentParams {
        affine: Some(transforms::AffineParams { translate: (3, -2), scale: 1.25 }),
        sampling: Sampling::Bilinear,
        ..AugmentParams::default()
    };
    transforms::apply(&params, &mut planes, size, &mut Vec::new());
    let (x, y) = (18.0, 4.0);
    let expected = ramp(15.0 + (x - 15.0 - 3.0) / 1.25, 8.0 + (y - 8.0 + 2.0) / 1.25);
    let found = planes[4 * 31 + 18];
    assert!((found - expected).abs() < 1e-6, "expected {expected}, found {found}");
}
