//! Augmentation at every level: exactly the image is read and exactly the planes are written, whatever the size.
//!
//! That it computes the right thing is for `ff-data`, which has the plain passes to compare with.

use ff_kernels::Level;
use ff_kernels::image::{ColorOp, IMAGENET_MEAN, IMAGENET_STD, InverseMap, Recipe, Rgb, augment};

/// A small turn, and one by an angle that is none.
const TURN: InverseMap = [0.98, -0.17, 0.1, 0.17, 0.98, -0.2];
const NOWHERE: InverseMap = [f32::NAN, f32::INFINITY, 1e30, -1e30, f32::NEG_INFINITY, f32::NAN];

/// Sizes around the widths of vectors, from one pixel on.
#[test]
fn small_images_agree_at_every_level() {
    let colors =
        [ColorOp::Brightness(1.2), ColorOp::Hue(0.1), ColorOp::Contrast(0.7), ColorOp::Saturation(1.3)];
    for (width, height) in
        [(1, 1), (1, 3), (2, 1), (3, 2), (7, 2), (8, 1), (9, 2), (15, 1), (17, 3), (33, 2), (48, 1)]
    {
        let area = width * height;
        let pixels: Vec<u8> = (0..3 * area).map(|i| (i * 37 % 256) as u8).collect();
        for maps in [&[][..], &[TURN], &[TURN, TURN], &[NOWHERE], &[TURN, NOWHERE]] {
            for colors in [&[][..], &colors, &colors[1..3]] {
                for mirrored in [false, true] {
                    let recipe = Recipe { mirrored, colors, maps, mean: IMAGENET_MEAN, std: IMAGENET_STD };
                    let planes = |level| {
                        let mut out = vec![f32::NAN; 3 * area];
                        augment(level, Rgb { pixels: &pixels, width, height }, &recipe, &mut out);
                        out
                    };
                    let portable = planes(Level::Portable);
                    assert!(portable.iter().all(|x| x.is_finite()), "{width} x {height}, {recipe:?}");
                    for level in Level::available() {
                        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-4;
                        let off = planes(level).iter().zip(&portable).position(differs);
                        assert_eq!(off, None, "{level:?}, {width} x {height}, {recipe:?}");
                    }
                }
            }
        }
    }
}
