//! What augmentation may do ([`AugmentSpec`]), the presets ([`Augment`]), and what it does to one sample
//! ([`AugmentParams`]).
//!
//! Ranges are torchvision's: `ColorJitter(b, c, s, h)` draws factors from `[max(0, 1-x), 1+x]` and a hue shift from
//! `[-h, h]`; `RandomRotation(d)` draws from `[-d, d]` degrees; `RandomAffine(0, (t, t), (a, b))` draws whole-pixel
//! shifts up to `t` of the image's width and height, and a scale from `[a, b]`.

use std::{fmt, str::FromStr};

use ff_core::random::{below, uniform};
use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::rectangle::{CropSpec, EraseSpec, Rectangle};
use super::trivial::TrivialParams;
use crate::{error::Error, rgb_image::ImageSize};

/// The presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// Flip and ColorJitter(.15, .15, .15, .05).
    #[default]
    Fast,
    /// Flip, ColorJitter(.2, .2, .2, .1), rotation by up to 10 degrees, translation by up to .1, scale .9 to 1.1.
    Balanced,
    /// Flip only.
    Faster,
    /// Nothing.
    Fastest,
}

impl Augment {
    /// Every preset.
    pub const ALL: [Augment; 4] = [Augment::Fast, Augment::Balanced, Augment::Faster, Augment::Fastest];

    /// The name used on the command line and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Augment::Fast => "fast",
            Augment::Balanced => "balanced",
            Augment::Faster => "faster",
            Augment::Fastest => "fastest",
        }
    }

    /// What the preset stands for.
    pub const fn spec(self) -> AugmentSpec {
        const fn jitter(x: f32, hue: f32) -> Option<JitterSpec> {
            Some(JitterSpec { brightness: x, contrast: x, saturation: x, hue })
        }
        const NONE: AugmentSpec = AugmentSpec {
            hflip_probability: 0.0,
            jitter: None,
            rotation_degrees: None,
            affine: None,
            sampling: Sampling::Nearest,
            crop: None,
            trivial: false,
            erase: None,
        };
        const FLIP: AugmentSpec = AugmentSpec { hflip_probability: 0.5, ..NONE };
        match self {
            Augment::Fast => AugmentSpec { jitter: jitter(0.15, 0.05), ..FLIP },
            Augment::Balanced => AugmentSpec {
                jitter: jitter(0.2, 0.1),
                rotation_degrees: Some(10.0),
                affine: Some(AffineSpec { translate: 0.1, scale: (0.9, 1.1) }),
                ..FLIP
            },
            Augment::Faster => FLIP,
            Augment::Fastest => NONE,
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Augment {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Augment::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| Error::UnknownName {
            expected: "an augmentation preset: fast, balanced, faster or fastest",
            found: name.to_owned(),
        })
    }
}

/// What may be drawn for a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentSpec {
    /// Probability of a mirror image, in `[0,1]`.
    pub hflip_probability: f32,
    /// Colour jitter.
    pub jitter: Option<JitterSpec>,
    /// Rotation, up to this many degrees either way.
    pub rotation_degrees: Option<f32>,
    /// Translation and scale.
    pub affine: Option<AffineSpec>,
    /// How rotation and affine maps look up pixels.
    #[serde(default)]
    pub sampling: Sampling,
    /// The part of the image that is taken, before all else.
    #[serde(default)]
    pub crop: Option<CropSpec>,
    /// Whether one operation of TrivialAugment comes next.
    #[serde(default)]
    pub trivial: bool,
    /// The part that is blanked, after all else.
    #[serde(default)]
    pub erase: Option<EraseSpec>,
}

/// How rotation and affine maps look up pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// The nearest pixel, one map after the other, as torchvision does.
    #[default]
    Nearest,
    /// Interpolated between four pixels, all maps at once.
    Bilinear,
}

/// `ColorJitter`'s four arguments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitterSpec {
    /// Factor within `[max(0, 1-x), 1+x]`.
    pub brightness: f32,
    /// Factor within `[max(0, 1-x), 1+x]`.
    pub contrast: f32,
    /// Factor within `[max(0, 1-x), 1+x]`.
    pub saturation: f32,
    /// Shift within `[-x, x]` turns, `x <= 0.5`.
    pub hue: f32,
}

/// `RandomAffine`'s `translate` and `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffineSpec {
    /// Largest shift, as a fraction of width and of height.
    pub translate: f32,
    /// Smallest and largest scale.
    pub scale: (f32, f32),
}

/// What is done to one sample in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AugmentParams {
    /// Mirror left and right.
    pub hflip: bool,
    /// Colour jitter.
    pub jitter: Option<JitterParams>,
    /// Rotation in degrees, counter-clockwise.
    pub rotation: Option<f64>,
    /// Translation and scale.
    pub affine: Option<AffineParams>,
    /// How the two maps look up pixels.
    pub sampling: Sampling,
    /// The part of the image that is taken.
    pub crop: Option<Rectangle>,
    /// The operation of TrivialAugment.
    pub trivial: Option<TrivialParams>,
    /// The part that is blanked.
    pub erase: Option<Rectangle>,
}

/// One draw of `ColorJitter`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JitterParams {
    /// The order of the four operations.
    pub order: [ColorOp; 4],
    /// Factor; 1 changes nothing.
    pub brightness: f32,
    /// Factor; 1 changes nothing.
    pub contrast: f32,
    /// Factor; 1 changes nothing.
    pub saturation: f32,
    /// Shift in turns; 0 changes nothing.
    pub hue: f32,
}

/// One of `ColorJitter`'s operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColorOp {
    /// [`adjust_brightness`](super::adjust_brightness).
    Brightness,
    /// [`adjust_contrast`](super::adjust_contrast).
    Contrast,
    /// [`adjust_saturation`](super::adjust_saturation).
    Saturation,
    /// [`adjust_hue`](super::adjust_hue).
    Hue,
}

/// One draw of `RandomAffine`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AffineParams {
    /// Shift in whole pixels, right and down.
    pub translate: (i32, i32),
    /// Scale about the centre; above 1 enlarges. f64 as in torchvision: at a scale such as 1.07 whole rows of source
    /// positions are ties, and the rounding of an f32 scale would decide them otherwise.
    pub scale: f64,
}

impl AugmentSpec {
    /// Draws for one sample. The number and order of draws depend on the spec only.
    pub fn draw(&self, rng: &mut impl RngCore, size: ImageSize) -> AugmentParams {
        AugmentParams {
            hflip: uniform(rng, 0.0, 1.0) < self.hflip_probability,
            jitter: self.jitter.map(|spec| spec.draw(rng)),
            rotation: self.rotation_degrees.map(|limit| f64::from(uniform(rng, -limit, limit))),
            affine: self.affine.map(|spec| spec.draw(rng, size)),
            sampling: self.sampling,
            // These came later: what was drawn before them has stayed what it was.
            crop: self.crop.map(|spec| spec.draw(rng, size)),
            trivial: self.trivial.then(|| TrivialParams::draw(rng)),
            erase: self.erase.and_then(|spec| spec.draw(rng, size)),
        }
    }
}

impl AugmentSpec {
    /// Whether there is anything in it that the kernels of a device cannot do.
    pub fn needs_host(&self) -> bool {
        self.crop.is_some() || self.trivial || self.erase.is_some()
    }

    /// The same with another way to look up pixels.
    #[must_use]
    pub const fn with_sampling(self, sampling: Sampling) -> Self {
        AugmentSpec { sampling, ..self }
    }
}

impl AugmentSpec {
    /// The same with `amount` times what a face detector's crops are off by: turned by up to 10 degrees, scaled by up
    /// to a tenth, shifted by up to a twenty-fifth of the image, on top of what is drawn anyway, looked up bilinearly.
    ///
    /// `ff-faces` cuts 95 of 100 FairFace crops within 12 degrees, 9 pixels of 224 and a tenth larger or a quarter
    /// smaller, and half of them within 1 degree and 1 pixel. An amount of 0 changes nothing.
    #[must_use]
    pub fn with_align_jitter(self, amount: f32) -> Self {
        if amount <= 0.0 {
            return self;
        }
        let AffineSpec { translate, scale } =
            self.affine.unwrap_or(AffineSpec { translate: 0.0, scale: (1.0, 1.0) });
        AugmentSpec {
            rotation_degrees: Some(self.rotation_degrees.unwrap_or(0.0) + 10.0 * amount),
            affine: Some(AffineSpec {
                translate: translate + 0.04 * amount,
                scale: (scale.0 - 0.1 * amount, scale.1 + 0.1 * amount),
            }),
            sampling: Sampling::Bilinear,
            ..self
        }
    }
}

impl From<Augment> for AugmentSpec {
    fn from(preset: Augment) -> Self {
        preset.spec()
    }
}

impl JitterSpec {
    fn draw(&self, rng: &mut impl RngCore) -> JitterParams {
        let mut order = [ColorOp::Brightness, ColorOp::Contrast, ColorOp::Saturation, ColorOp::Hue];
        for last in (1..order.len()).rev() {
            order.swap(last, below(rng, last as u32 + 1) as usize);
        }
        let mut factor = |x: f32| uniform(rng, (1.0 - x).max(0.0), 1.0 + x);
        JitterParams {
            order,
            brightness: factor(self.brightness),
            contrast: factor(self.contrast),
            saturation: factor(self.saturation),
            hue: uniform(rng, -self.hue, self.hue),
        }
    }
}

impl AffineSpec {
    fn draw(&self, rng: &mut impl RngCore, size: ImageSize) -> AffineParams {
        let mut shift = |extent: usize| {
            let limit = self.translate * extent as f32;
            uniform(rng, -limit, limit).round_ties_even() as i32
        };
        let translate = (shift(size.width), shift(size.height));
        AffineParams { translate, scale: f64::from(uniform(rng, self.scale.0, self.scale.1)) }
    }
}
