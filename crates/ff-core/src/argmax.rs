//! The one rule by which numbers become an answer.

/// The place of the largest value: of equals the first, and never that of a NaN. `None` where there is nothing else.
///
/// ```
/// use ff_core::argmax;
///
/// assert_eq!(argmax(&[0.1, 0.7, 0.7]), Some(1));
/// assert_eq!(argmax(&[f32::NAN, -1.0]), Some(1));
/// assert_eq!(argmax(&[f32::NAN]), None);
/// ```
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
        if best.is_none_or(|best| *value > values[best]) {
            best = Some(i);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three functions once answered differently on ties and NaN.
    #[test]
    fn the_largest_is_the_first_of_equals_and_never_a_nan() {
        const NAN: f32 = f32::NAN;
        for (values, expected) in [
            (&[0.2, 0.5, 0.5][..], Some(1)),
            (&[0.5, 0.5, 0.2], Some(0)),
            (&[-0.0, 0.0], Some(0)),
            (&[NAN, 0.1, 0.3, NAN], Some(2)),
            (&[-NAN, NAN, f32::NEG_INFINITY], Some(2)),
            (&[1.0, f32::INFINITY, f32::INFINITY], Some(1)),
            (&[NAN, NAN], None),
            (&[], None),
        ] {
            assert_eq!(argmax(values), expected, "{values:?}");
        }
    }
}
