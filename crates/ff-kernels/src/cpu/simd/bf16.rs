//! bfloat16: the upper half of an f32, with its range and 8 bits of precision.
//!
//! Rounding is to the nearest, ties to even, as the processors' instruction does it: subnormal values become zero, and
//! a NaN stays one.

/// A bfloat16 value. Zero bits are 0.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// The nearest value.
    #[inline(always)]
    pub const fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        let exponent = bits & 0x7F80_0000;
        Self(if exponent == 0 {
            ((bits & 0x8000_0000) >> 16) as u16
        } else if exponent == 0x7F80_0000 {
            let quiet = if bits & 0x007F_FFFF == 0 { 0 } else { 0x40 };
            (bits >> 16) as u16 | quiet
        } else {
            ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
        })
    }

    /// The same value.
    #[inline(always)]
    pub const fn to_f32(self) -> f32 {
        f32::from_bits((self.0 as u32) << 16)
    }

    /// Its sixteen bits.
    pub const fn to_bits(self) -> u16 {
        self.0
    }
}
