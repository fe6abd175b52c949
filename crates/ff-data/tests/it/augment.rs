//! The transforms against torchvision's, and the draws against their ranges.

use ff_data::{
    Augment, AugmentSpec, ImageSize, RgbImage, Sampling,
    transforms::{self, AffineParams, AugmentParams, ColorOp, JitterParams},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::support::golden;

const SIZE: ImageSize = ImageSize::DEFAULT;

fn planes(image: &RgbImage) -> Vec<f32> {
    let mut planes = vec![0.0; image.pixels.len()];
    transforms::to_planes(image, &mut planes);
    planes
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn colour_flip_and_normalisation_agree_with_torchvision() {
    let Some(golden) = golden("augment_golden.safetensors") else { return };
    let input = planes(&golden.image("image_u8"));
    type Op = fn(&mut [f32]);
    let cases: [(&str, Op); 11] = [
        ("brightness_1.13", |x| transforms::adjust_brightness(x, 1.13)),
        ("brightness_0.86", |x| transforms::adjust_brightness(x, 0.86)),
        ("contrast_1.14", |x| transforms::adjust_contrast(x, 1.14)),
        ("contrast_0.87", |x| transforms::adjust_contrast(x, 0.87)),
        ("saturation_1.12", |x| transforms::adjust_saturation(x, 1.12)),
        ("saturation_0.85", |x| transforms::adjust_saturation(x, 0.85)),
        ("hue_0.05", |x| transforms::adjust_hue(x, 0.05)),
        ("hue_-0.1", |x| transforms::adjust_hue(x, -0.1)),
        ("jitter_b1.1_s0.9_h0.03_c1.05", |x| {
            let order = [ColorOp::Brightness, ColorOp::Saturation, ColorOp::Hue, ColorOp::Contrast];
            let jitter = JitterParams { order, brightness: 1.1, contrast: 1.05, saturation: 0.9, hue: 0.03 };
            let params = AugmentParams { jitter: Some(jitter), ..AugmentParams::default() };
            transforms::apply(&params, x, SIZE, &mut Vec::new());
        }),
        ("hflip", |x| transforms::hflip(x, SIZE)),
        ("normalized", transforms::normalize),
    ];
    for (name, op) in cases {
        let mut output = input.clone();
        op(&mut output);
        let difference = largest_difference(&output, &golden.f32s(name));
        eprintln!("{name}: largest difference {difference:.1e}");
        assert!(difference <= 1e-4, "{name}: differs by {difference}");
    }
}

#[test]
fn rotation_and_affine_agree_with_torchvision() {
    let Some(golden) = golden("augment_golden.safetensors") else { return };
    let input = planes(&golden.image("image_u8"));
    let spare = &mut Vec::new();
    let shifted = |x, y, scale| AffineParams { translate: (x, y), scale };
    let mut cases: Vec<(&str, Vec<f32>)> = vec![];
    for (name, degrees) in [("rotate_7", 7.0), ("rotate_-9.5", -9.5)] {
        let mut output = input.clone();
        transforms::rotate(&mut output, SIZE, degrees, spare);
        cases.push((name, output));
    }
    for (name, params) in
        [("affine_t(13,-9)_s1.07", shifted(13, -9, 1.07)), ("affine_t(-20,4)_s0.92", shifted(-20, 4, 0.92))]
    {
        let mut output = input.clone();
        transforms::affine(&mut output, SIZE, &params, spare);
        cases.push((name, output));
    }
    for (name, output) in cases {
        let expected = golden.f32s(name);
        let differs = |i: &usize| {
            (0..3).any(|channel| {
                let at = channel * SIZE.area() + i;
                (output[at] - expected[at]).abs() > 1e-4
            })
        };
        let pixels = (0..SIZE.area()).filter(differs).count();
        eprintln!("{name}: {pixels} of {} pixels differ", SIZE.area());
        assert!(pixels <= 5, "{name}: {pixels} pixels differ");
    }
}

#[test]
fn draws_stay_in_their_ranges_and_reach_both_ends() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let draws: Vec<AugmentParams> =
        (0..4000).map(|_| Augment::Balanced.spec().draw(&mut rng, SIZE)).collect();
    let check = |name: &str, low: f32, high: f32, value: &dyn Fn(&AugmentParams) -> f32| {
        let values = draws.iter().map(value);
        let (least, most) = values.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let margin = (high - low) * 0.01;
        assert!((low..low + margin).contains(&least), "{name}: least {least}, expected {low}");
        assert!(most <= high && most > high - margin, "{name}: most {most}, expected {high}");
    };
    check("brightness", 0.8, 1.2, &|p| p.jitter.unwrap().brightness);
    check("contrast", 0.8, 1.2, &|p| p.jitter.unwrap().contrast);
    check("saturation", 0.8, 1.2, &|p| p.jitter.unwrap().saturation);
    check("hue", -0.1, 0.1, &|p| p.jitter.unwrap().hue);
    check("rotation", -10.0, 10.0, &|p| p.rotation.unwrap() as f32);
    check("scale", 0.9, 1.1, &|p| p.affine.unwrap().scale as f32);
    check("x", -22.0, 22.0 + 1e-6, &|p| p.affine.unwrap().translate.0 as f32);
    check("y", -22.0, 22.0 + 1e-6, &|p| p.affine.unwrap().translate.1 as f32);
    let flips = draws.iter().filter(|params| params.hflip).count();
    assert!((1800..2200).contains(&flips), "{flips} of 4000 flipped");
    let mut orders: Vec<String> = draws.iter().map(|p| format!("{:?}", p.jitter.unwrap().order)).collect();
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 24, "every order of the four operations is drawn");
}

#[test]
fn presets_are_what_they_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut draw = |preset: Augment| preset.spec().draw(&mut rng, SIZE);
    assert_eq!(draw(Augment::Fastest), AugmentParams::default());
    let faster = draw(Augment::Faster);
    assert_eq!(AugmentParams { hflip: false, ..faster }, AugmentParams::default());
    let fast = draw(Augment::Fast);
    assert!(fast.jitter.is_some() && fast.rotation.is_none() && fast.affine.is_none());
    for preset in Augment::ALL {
        assert_eq!(preset.name().parse::<Augment>().unwrap(), preset);
    }
    let message = "fest".parse::<Augment>().unwrap_err().to_string();
    assert!(message.ends_with("found \"fest\""), "{message}");
}

#[test]
fn colour_leaves_grey_grey_and_values_in_range() {
    let area = 64;
    let mut grey: Vec<f32> = (0..3 * area).map(|i| (i % area) as f32 / (area - 1) as f32).collect();
    let before = grey.clone();
    transforms::adjust_hue(&mut grey, 0.31);
    assert!(largest_difference(&grey, &before) < 1e-6);
    // torchvision's weights for grey add up to 0.9999.
    transforms::adjust_saturation(&mut grey, 1.9);
    assert!(largest_difference(&grey, &before) < 1e-4);
    transforms::adjust_contrast(&mut grey, 3.0);
    transforms::adjust_brightness(&mut grey, 2.0);
    assert!(grey.iter().all(|value| (0.0..=1.0).contains(value)));
}

#[test]
fn a_turn_of_the_hue_permutes_the_primaries() {
    for (turns, expected) in [
        (1.0 / 3.0, [0.0, 1.0, 0.0]),
        (-1.0 / 3.0, [0.0, 0.0, 1.0]),
        (0.5, [0.0, 1.0, 1.0]),
        (0.0, [1.0, 0.0, 0.0]),
    ] {
        let mut red = [1.0, 0.0, 0.0];
        transforms::adjust_hue(&mut red, turns);
        assert!(largest_difference(&red, &expected) < 1e-5, "{turns}: {red:?}");
    }
}

/// Odd and oblong sizes: a quarter turn of a square is exact, a whole-pixel shift is exact in any size.
#[test]
fn exact_maps_move_pixels_exactly() {
    let (width, height) = (7, 5);
    let image: Vec<f32> = (0..3 * width * height).map(|i| 1.0 + i as f32).collect();
    let mut shifted = image.clone();
    let params = AffineParams { translate: (2, -1), scale: 1.0 };
    transforms::affine(&mut shifted, ImageSize { width, height }, &params, &mut Vec::new());
    for (i, &value) in shifted.iter().enumerate() {
        let (x, y) = (i % width, i / width % height);
        let expected = if x >= 2 && y + 1 < height { image[i - 2 + width] } else { 0.0 };
        assert_eq!(value, expected, "at ({x}, {y})");
    }
    let n = 5;
    let image: Vec<f32> = (0..3 * n * n).map(|i| 1.0 + i as f32).collect();
    let mut turned = image.clone();
    transforms::rotate(&mut turned, ImageSize { width: n, height: n }, 90.0, &mut Vec::new());
    for (i, &value) in turned.iter().enumerate() {
        let (plane, x, y) = (i / (n * n), i % n, i / n % n);
        assert_eq!(value, image[plane * n * n + x * n + (n - 1 - y)], "at ({x}, {y}): counter-clockwise");
    }
}

#[test]
fn align_jitter_moves_crops_as_a_detector_does_and_none_changes_no_draw() {
    let draw = |spec: AugmentSpec, seed| spec.draw(&mut ChaCha8Rng::seed_from_u64(seed), SIZE);
    for preset in Augment::ALL {
        let spec = preset.spec();
        assert_eq!(spec.with_align_jitter(0.0), spec);
    }
    let (mut rolls, mut scales, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..400 {
        let half = draw(Augment::Fastest.spec().with_align_jitter(0.5), seed);
        let moved = half.affine.unwrap();
        assert_eq!(half.sampling, Sampling::Bilinear);
        assert!(!half.hflip && half.jitter.is_none());
        rolls.push(half.rotation.unwrap());
        scales.push(moved.scale);
        shifts.push(f64::from(moved.translate.0));
    }
    for (values, limit, center) in [(rolls, 5.0, 0.0), (scales, 0.05, 1.0), (shifts, 4.0, 0.0)] {
        let largest = values.iter().map(|v| (v - center).abs()).fold(0.0, f64::max);
        assert!(largest <= limit + 1e-6 && largest > 0.9 * limit, "{largest} of {limit}");
    }
    // On top of what a preset draws anyway.
    let balanced = Augment::Balanced.spec().with_align_jitter(1.0);
    assert_eq!(balanced.rotation_degrees, Some(20.0));
    let affine = balanced.affine.unwrap();
    assert!((affine.translate - 0.14).abs() < 1e-6 && (affine.scale.0 - 0.8).abs() < 1e-6);
}
