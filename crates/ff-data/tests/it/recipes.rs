//! TrivialAugment, random erasing and random resized crops against torchvision's.

use std::path::Path;

use ff_data::{
    Augment, AugmentSpec, ImageSize, RgbImage,
    transforms::{
        self, AugmentParams, CropSpec, EraseSpec, Rectangle, TrivialOp, TrivialParams, change_pixels,
    },
};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::Fixture;

/// Made by `fixtures/make_recipes.py`.
fn fixture() -> Fixture {
    Fixture::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipes.safetensors"))
}

fn i32s(fixture: &Fixture, name: &str) -> Vec<i32> {
    let bytes = fixture.bytes(name);
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A generator that says these words and no more.
struct Words(Vec<u32>, usize);

impl RngCore for Words {
    fn next_u32(&mut self) -> u32 {
        self.1 += 1;
        self.0[self.1 - 1]
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("draws take words of 32 bits")
    }

    fn fill_bytes(&mut self, _: &mut [u8]) {
        unreachable!("draws take words of 32 bits")
    }
}

#[test]
fn every_operation_of_trivial_augment_does_what_torchvisions_does() {
    let fixture = fixture();
    let image = fixture.image("image");
    let (mut cases, mut wrong) = (0, Vec::new());
    for name in fixture.names() {
        let Some((op, bin)) = name.split_once('.') else { continue };
        let Some(op) = TrivialOp::ALL.into_iter().find(|known| format!("{known:?}") == op) else { continue };
        let bin: i32 = bin.parse().unwrap();
        let magnitude = op.magnitude(bin.unsigned_abs()).unwrap_or(0.0) * f64::from(bin.signum());
        let mut found = image.clone();
        TrivialParams { op, magnitude }.apply(&mut found);
        let expected = fixture.image(&name);
        let differing = found.pixels.iter().zip(&expected.pixels).filter(|(a, b)| a != b).count();
        // A mean or a source that is a tie to an ulp may be decided otherwise.
        if differing > 6 {
            wrong.push(format!("{name}: {differing} of {} bytes differ", found.pixels.len()));
        }
        let is_identity = op == TrivialOp::Identity;
        assert_eq!(found == image, is_identity, "{name} changes nothing");
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases, 9 * 6 + 2 * 3 + 3);
}

#[test]
fn strengths_are_torchvisions() {
    let table = fixture().f32s("magnitudes");
    for (op, row) in TrivialOp::ALL.into_iter().zip(table.chunks_exact(31)) {
        for (bin, &expected) in row.iter().enumerate() {
            match op.magnitude(bin as u32) {
                None => assert!(expected.is_nan(), "{op:?}"),
                Some(found) => {
                    assert!((found as f32 - expected).abs() < 1e-5, "{op:?} {bin}: {found} vs {expected}");
                    assert_eq!(found.trunc(), f64::from(expected).trunc(), "whole pixels or bits of {bin}");
                }
            }
        }
    }
}

#[test]
fn rectangles_are_those_that_torchvision_draws_of_the_same_numbers() {
    let fixture = fixture();
    let sizes: Vec<ImageSize> = i32s(&fixture, "sizes")
        .chunks_exact(2)
        .map(|hw| ImageSize { height: hw[0] as usize, width: hw[1] as usize })
        .collect();
    let cases = |name: &str| {
        let words: Vec<u32> =
            i32s(&fixture, &format!("{name}.words")).iter().map(|&word| word as u32).collect();
        let parts = i32s(&fixture, &format!("{name}.parts"));
        let of_case = |(i, part): (usize, &[i32])| {
            let [top, left, height, width] = std::array::from_fn(|j| part[j] as usize);
            let words = Words(words[24 * i..24 * (i + 1)].to_vec(), 0);
            (sizes[i % sizes.len()], words, Rectangle { top, left, height, width })
        };
        parts.chunks_exact(4).enumerate().map(of_case).collect::<Vec<_>>()
    };
    for (i, (size, mut words, expected)) in cases("crop").into_iter().enumerate() {
        assert_eq!(CropSpec { smallest: 0.3 }.draw(&mut words, size), expected, "crop {i} of {size:?}");
    }
    for (i, (size, mut words, expected)) in cases("erase").into_iter().enumerate() {
        let expected = Some(expected).filter(|part| part.height > 0);
        let found = EraseSpec { probability: 1.0 }.draw(&mut words, size);
        assert_eq!(found, expected, "erasing {i} of {size:?}");
    }
}

#[test]
fn a_crop_is_cut_and_resized_as_pillow_does_and_what_is_erased_is_zero() {
    let image = fixture().image("image");
    let size = ImageSize { width: image.width, height: image.height };
    let part = Rectangle { top: 3, left: 5, height: 9, width: 11 };
    let params = AugmentParams { crop: Some(part), erase: Some(part), ..AugmentParams::default() };
    let cropped = change_pixels(&params, &image.pixels, size).unwrap();
    let rows = (part.top..part.top + part.height).map(|y| 3 * (y * image.width + part.left));
    let cut = rows.flat_map(|start| image.pixels[start..start + 3 * part.width].to_vec()).collect();
    let cut = RgbImage { width: part.width, height: part.height, pixels: cut };
    assert_eq!(cropped, ff_data::resize(&cut, size));

    let mut found = vec![f32::NAN; image.pixels.len()];
    transforms::augment_into(&params, &image.pixels, size, &mut found, &mut Vec::new());
    let mut expected = vec![0.0; image.pixels.len()];
    transforms::to_planes(&cropped, &mut expected);
    transforms::normalize(&mut expected);
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let (x, y) = (i % size.width, i % size.area() / size.width);
        let erased = (3..12).contains(&y) && (5..16).contains(&x);
        let expected = if erased { 0.0 } else { *expected };
        assert!((found - expected).abs() < 1e-5, "({x}, {y}): {found} vs {expected}");
    }
}

#[test]
fn draws_are_as_frequent_as_they_should_be_and_leave_the_older_ones_alone() {
    let size = ImageSize::DEFAULT;
    let plain = Augment::Balanced.spec();
    let all = AugmentSpec {
        crop: Some(CropSpec { smallest: 0.5 }),
        trivial: true,
        erase: Some(EraseSpec { probability: 0.25 }),
        ..plain
    };
    let draw = |spec: AugmentSpec, seed| spec.draw(&mut ChaCha8Rng::seed_from_u64(seed), size);
    let mut ops = std::collections::HashMap::new();
    let (mut erased, mut negative, mut signed) = (0, 0, 0);
    const N: u64 = 7000;
    for seed in 0..N {
        let found = draw(all, seed);
        let without = AugmentParams { crop: None, trivial: None, erase: None, ..found };
        assert_eq!(without, draw(plain, seed));
        let crop = found.crop.unwrap();
        let share = (crop.width * crop.height) as f64 / size.area() as f64;
        assert!((0.49..=1.0).contains(&share), "{share}");
        let trivial = found.trivial.unwrap();
        *ops.entry(trivial.op).or_insert(0) += 1;
        erased += u64::from(found.erase.is_some());
        if trivial.op.is_signed() && trivial.magnitude != 0.0 {
            signed += 1;
            negative += u64::from(trivial.magnitude < 0.0);
        }
    }
    // Five standard deviations of a binomial count.
    assert_eq!(ops.len(), 14);
    assert!(ops.values().all(|&n: &i32| (n - 500).abs() < 108), "{ops:?}");
    assert!(erased.abs_diff(N / 4) < 182, "{erased}");
    assert!(negative.abs_diff(signed / 2) < 170, "{negative} of {signed}");
}
