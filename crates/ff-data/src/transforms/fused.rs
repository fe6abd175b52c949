//! The fast path: a draw applied in one pass, from decoded pixels to normalised planes.
//!
//! Computes what [`to_planes`](super::to_planes), [`apply`](super::apply) and [`normalize`](super::normalize) compute,
//! to rounding (1e-5); tests compare them over random draws and sizes.

use ff_kernels::{
    Level,
    image::{self, Recipe, Rgb},
};

use super::{
    AugmentParams, ColorOp, IMAGENET_MEAN, IMAGENET_STD, InverseAffine, JitterParams, Sampling, geometry,
    normalize,
};
use crate::resize::ImageSize;

/// Pixels `(H,W,3)` u8 -> `out (3,H,W)` f32, augmented and normalised. `spare` is room for bilinear sampling, which
/// reads each pixel of the coloured image more than once; nothing else needs it.
///
/// # Panics
/// `pixels` or `out` does not hold an image of that size, or there is no pixel.
pub fn augment_into(
    params: &AugmentParams,
    pixels: &[u8],
    size: ImageSize,
    out: &mut [f32],
    spare: &mut Vec<f32>,
) {
    augment_into_at(Level::best(), params, pixels, size, out, spare);
}

/// As [`augment_into`] on a given instruction set, for tests and benches.
///
/// # Panics
/// As [`augment_into`]; or the machine lacks the level.
pub fn augment_into_at(
    level: Level,
    params: &AugmentParams,
    pixels: &[u8],
    size: ImageSize,
    out: &mut [f32],
    spare: &mut Vec<f32>,
) {
    let rgb = Rgb { pixels, width: size.width, height: size.height };
    let mut colors = [image::ColorOp::Brightness(1.0); Recipe::MOST_COLORS];
    let n_colors = params.jitter.as_ref().map_or(0, |jitter| {
        colors = jitter.order.map(|op| color(op, jitter));
        colors.len()
    });
    let mut maps = [[0.0; 6]; Recipe::MOST_MAPS];
    let mut n_maps = 0;
    let rotation = params.rotation.map(InverseAffine::rotation);
    let affine = params.affine.as_ref().map(InverseAffine::translation_scale);
    for map in rotation.into_iter().chain(affine) {
        maps[n_maps] = map.0;
        n_maps += 1;
    }
    let recipe = Recipe {
        mirrored: params.hflip,
        colors: &colors[..n_colors],
        maps: &maps[..n_maps],
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
    };
    if params.sampling == Sampling::Bilinear && n_maps > 0 {
        let unit = Recipe { maps: &[], mean: [0.0; 3], std: [1.0; 3], ..recipe };
        image::augment(level, rgb, &unit, out);
        geometry::bilinear(params, out, size, spare);
        normalize(out);
    } else {
        image::augment(level, rgb, &recipe, out);
    }
}

fn color(op: ColorOp, jitter: &JitterParams) -> image::ColorOp {
    match op {
        ColorOp::Brightness => image::ColorOp::Brightness(jitter.brightness),
        ColorOp::Contrast => image::ColorOp::Contrast(jitter.contrast),
        ColorOp::Saturation => image::ColorOp::Saturation(jitter.saturation),
        ColorOp::Hue => image::ColorOp::Hue(jitter.hue),
    }
}
