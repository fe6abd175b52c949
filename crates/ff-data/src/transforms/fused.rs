//! The fast path: a draw applied in one pass, from decoded pixels to normalised planes.
//!
//! Computes what [`to_planes`](super::to_planes), [`apply`](super::apply) and [`normalize`](super::normalize) compute,
//! to rounding (1e-5); tests compare them over random draws and sizes. What few ask for comes before and after the
//! pass. [`AugmentParams::write_device_recipe`] writes the same operations down for a device that augments itself.

use ff_kernels::{
    Level,
    gpu::program::batch::{Lookup, write_recipe},
    image::{self, InverseMap, Recipe, Rgb},
};

use super::{
    AugmentParams, ColorOp, IMAGENET_MEAN, IMAGENET_STD, InverseAffine, JitterParams, Sampling,
    change_pixels, erase, geometry, normalize,
};
use crate::rgb_image::ImageSize;

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
    let changed = change_pixels(params, pixels, size);
    let pixels = changed.as_ref().map_or(pixels, |image| &image.pixels);
    let rgb = Rgb { pixels, width: size.width, height: size.height };
    let operations = Operations::of(params);
    let recipe = Recipe {
        mirrored: params.hflip,
        colors: operations.colors(),
        maps: operations.maps(),
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
    };
    if params.sampling == Sampling::Bilinear && operations.n_maps > 0 {
        let unit = Recipe { maps: &[], mean: [0.0; 3], std: [1.0; 3], ..recipe };
        image::augment(level, rgb, &unit, out);
        geometry::bilinear(params, out, size, spare);
        normalize(out);
    } else {
        image::augment(level, rgb, &recipe, out);
    }
    if let Some(part) = params.erase {
        erase(out, size, part);
    }
}

impl AugmentParams {
    /// Writes the draw for the kernels that augment on a device, of a spec that [needs no
    /// host](super::AugmentSpec::needs_host).
    ///
    /// # Panics
    /// `to` has not [`RECIPE_LEN`](ff_kernels::gpu::program::batch::RECIPE_LEN) values.
    pub fn write_device_recipe(&self, to: &mut [f32]) {
        let lookup = match self.sampling {
            Sampling::Nearest => Lookup::Nearest,
            Sampling::Bilinear => Lookup::Bilinear,
        };
        let operations = Operations::of(self);
        write_recipe(self.hflip, operations.colors(), operations.maps(), lookup, to);
    }
}

/// A draw's colour operations and maps as the kernels take them, each in its order.
struct Operations {
    colors: [image::ColorOp; Recipe::MOST_COLORS],
    n_colors: usize,
    maps: [InverseMap; Recipe::MOST_MAPS],
    n_maps: usize,
}

impl Operations {
    fn of(params: &AugmentParams) -> Self {
        let mut operations = Operations {
            colors: [image::ColorOp::Brightness(1.0); Recipe::MOST_COLORS],
            n_colors: 0,
            maps: [[0.0; 6]; Recipe::MOST_MAPS],
            n_maps: 0,
        };
        if let Some(jitter) = &params.jitter {
            operations.colors = jitter.order.map(|op| color(op, jitter));
            operations.n_colors = jitter.order.len();
        }
        let rotation = params.rotation.map(InverseAffine::rotation);
        let affine = params.affine.as_ref().map(InverseAffine::translation_scale);
        for map in rotation.into_iter().chain(affine) {
            operations.maps[operations.n_maps] = map.0;
            operations.n_maps += 1;
        }
        operations
    }

    fn colors(&self) -> &[image::ColorOp] {
        &self.colors[..self.n_colors]
    }

    fn maps(&self) -> &[InverseMap] {
        &self.maps[..self.n_maps]
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

#[cfg(test)]
mod tests {
    use ff_kernels::gpu::program::batch::RECIPE_LEN;

    use super::super::{AffineParams, Augment};
    use super::*;
    use ff_core::random::{Purpose, generator};

    fn recipe(params: &AugmentParams) -> [f32; RECIPE_LEN] {
        let mut recipe = [f32::NAN; RECIPE_LEN];
        params.write_device_recipe(&mut recipe);
        recipe
    }

    #[test]
    fn an_image_that_is_left_alone_has_an_empty_recipe() {
        assert_eq!(recipe(&AugmentParams::default()), [0.0; RECIPE_LEN]);
    }

    #[test]
    fn a_recipe_says_what_the_fused_pass_does() {
        let jitter = JitterParams {
            order: [ColorOp::Hue, ColorOp::Contrast, ColorOp::Brightness, ColorOp::Saturation],
            brightness: 1.1,
            contrast: 0.9,
            saturation: 1.2,
            hue: -0.05,
        };
        let affine = AffineParams { translate: (3, -2), scale: 1.05 };
        let params = AugmentParams {
            hflip: true,
            jitter: Some(jitter),
            rotation: Some(10.0),
            affine: Some(affine),
            ..AugmentParams::default()
        };
        let written = recipe(&params);
        assert_eq!(written[..4], [1.0, 0.0, 4.0, 2.0]);
        assert_eq!(written[4..12], [3.0, -0.05, 1.0, 0.9, 0.0, 1.1, 2.0, 1.2]);
        assert_eq!(written[12..18], InverseAffine::rotation(10.0).0);
        assert_eq!(written[18..], InverseAffine::translation_scale(&affine).0);

        let both = recipe(&AugmentParams { sampling: Sampling::Bilinear, ..params });
        assert_eq!(both[..4], [1.0, 1.0, 4.0, 1.0], "bilinear maps are one map");
    }

    /// Draws differ, and so do their recipes.
    #[test]
    fn every_preset_fits_into_a_recipe() {
        let size = ImageSize::DEFAULT;
        for preset in Augment::ALL {
            let mut recipes: Vec<_> = (0..8)
                .map(|sample| {
                    recipe(&preset.spec().draw(&mut generator(Purpose::Augment, 1, 0, sample), size))
                })
                .collect();
            assert!(recipes.iter().flatten().all(|x| x.is_finite()), "{preset}");
            recipes.dedup();
            assert_eq!(recipes.len() > 1, preset != Augment::Fastest, "{preset}");
        }
    }
}
