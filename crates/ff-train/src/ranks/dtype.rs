//! What gradients are while they travel between ranks.

use ff_kernels::Bf16;
use serde::{Deserialize, Serialize};

/// The type of a gradient's values on their way. They are added as f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReduceDtype {
    /// As they are: nothing depends on how many ranks there are.
    #[default]
    F32,
    /// Half the bytes. Each rank's part of a sum is rounded before it is added, and so is the sum: what comes of it
    /// depends on the number of ranks.
    Bf16,
}

impl ReduceDtype {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Bytes of values that are rounded to bf16.
pub fn to_bf16(values: &[f32]) -> Vec<u8> {
    // Not collected: that would be one value at a time.
    let mut bytes = vec![0; 2 * values.len()];
    for (bytes, &value) in bytes.chunks_exact_mut(2).zip(values) {
        bytes.copy_from_slice(&Bf16::from_f32(value).to_bits().to_le_bytes());
    }
    bytes
}

/// The values of such bytes.
///
/// # Panics
/// There are not two bytes a value.
pub fn from_bf16(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(bytes.len(), 2 * values.len(), "two bytes a value");
    for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(2)) {
        // Its bits are the upper half of an f32's.
        *value = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_rounded_to_eight_bits() {
        let values = [1.0f32, -0.0, 1.003_906_2, 1.004, 3.0e38, f32::MAX, f32::NEG_INFINITY];
        let mut found = [0.0f32; 7];
        from_bf16(&to_bf16(&values), &mut found);
        let rounded =
            [1.0f32, -0.0, 1.0, 1.007_812_5, f32::from_bits(0x7f62_0000), f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(found.map(f32::to_bits), rounded.map(f32::to_bits));
        from_bf16(&to_bf16(&[f32::NAN]), &mut found[..1]);
        assert!(found[0].is_nan());
    }
}
