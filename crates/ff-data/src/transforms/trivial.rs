//! TrivialAugment (Müller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", ICCV 2021)
//! in its wide form: one operation an image, at a strength that is drawn too.
//!
//! Operations and ranges are `torchvision.transforms.TrivialAugmentWide`'s.

use ff_core::random::{below, coin};
use rand::RngCore;

/// Strengths that an operation has.
const BINS: u32 = 31;

/// One of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are torchvision's")]
pub enum TrivialOp {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

/// One draw: an operation and its strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrivialParams {
    /// The operation.
    pub op: TrivialOp,
    /// How strong, and in which direction: a slope, pixels, degrees, a factor's distance from 1, bits that stay, or the
    /// value from which on colours are inverted. Without meaning for the last two operations and the first.
    pub magnitude: f64,
}

impl TrivialOp {
    /// In torchvision's order.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// The strength of a bin of [0, 30]; `None` where the operation has none.
    pub fn magnitude(self, bin: u32) -> Option<f64> {
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => None,
            Self::TranslateX | Self::TranslateY => Some(between(0.0, 32.0, bin)),
            Self::Rotate => Some(between(0.0, 135.0, bin)),
            Self::Posterize => Some(8.0 - (f64::from(bin) / 5.0).round_ties_even()),
            Self::Solarize => Some(between(255.0, 0.0, bin)),
            _ => Some(between(0.0, 0.99, bin)),
        }
    }

    /// Whether it has two directions.
    pub fn is_signed(self) -> bool {
        !matches!(self, Self::Posterize | Self::Solarize) && self.magnitude(0).is_some()
    }
}

/// `torch.linspace(first, last, 31)[bin]`, to the bit: its half-way value is an ulp below 16 of 32 pixels, which are 15
/// when their fraction is cut off.
fn between(first: f32, last: f32, bin: u32) -> f64 {
    let step = (last - first) / (BINS - 1) as f32;
    let steps = |n: u32, from: f32, step: f32| (n as f32).mul_add(step, from);
    f64::from(if bin < BINS / 2 { steps(bin, first, step) } else { steps(BINS - 1 - bin, last, -step) })
}

impl TrivialParams {
    /// Draws an operation, then its strength, then its direction, as far as it has them.
    pub fn draw(rng: &mut impl RngCore) -> Self {
        let op = TrivialOp::ALL[below(rng, TrivialOp::ALL.len() as u32) as usize];
        if op.magnitude(0).is_none() {
            return Self { op, magnitude: 0.0 };
        }
        let magnitude = op.magnitude(below(rng, BINS)).unwrap_or(0.0);
        let negative = op.is_signed() && coin(rng);
        Self { op, magnitude: if negative { -magnitude } else { magnitude } }
    }
}
