//! Logarithm and exponential of additions, multiplications and divisions alone, which IEEE 754 fixes to the last bit.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// The upper 32 bits of ln 2, so that small multiples of it are exact, and the rest of it.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// The natural logarithm of a positive, finite, normal number.
pub fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "expected a positive normal number, found {x}");
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), and the fraction is below 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (2.0 * s * series + exponent * LN_2_LOW)
}

/// e to the power of x; 0 and infinity where that is no normal number any more.
pub fn exp(x: f64) -> f64 {
    if x < -708.0 {
        return 0.0;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    // x = power ln 2 + rest, the power the nearest whole number.
    let power = (x * LOG2_E + if x < 0.0 { -0.5 } else { 0.5 }) as i64;
    let rest = x - power as f64 * LN_2_HIGH - power as f64 * LN_2_LOW;
    debug_assert!(rest.abs() <= 0.51 * LN_2, "{x}");
    let series = (1..=14).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    series * f64::from_bits(((power + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_are_as_the_system_has_them(x in 1e-300f64..1e300, y in -700.0f64..700.0, near_one in 0.5f64..2.0) {
            for x in [x, near_one] {
                prop_assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{} vs {}", ln(x), x.ln());
            }
            prop_assert!((exp(y) - y.exp()).abs() <= 1e-15 * y.exp(), "{} vs {}", exp(y), y.exp());
        }
    }

    #[test]
    fn edges_are_what_they_should_be() {
        assert_eq!([ln(1.0), exp(0.0), exp(-1e9), exp(1e9)], [0.0, 1.0, 0.0, f64::INFINITY]);
    }
}
