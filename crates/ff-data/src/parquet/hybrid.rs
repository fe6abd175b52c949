//! Parquet's mix of runs and packed bits: levels, indices into a dictionary, and booleans of newer writers.

/// Decodes `n` numbers of `width` bits each.
///
/// Takes four bytes of memory a number; `n` has to be bounded by the caller.
pub(super) fn decode(mut bytes: &[u8], width: u32, n: usize) -> Result<Vec<u32>, String> {
    if width > 32 {
        return Err(format!("expected numbers of at most 32 bits, found {width}"));
    }
    let mut numbers = Vec::with_capacity(n);
    while numbers.len() < n {
        let head = varint(&mut bytes)?;
        let (len, left) = ((head >> 1) as usize, n - numbers.len());
        if head & 1 == 0 {
            let value = little_endian(take(&mut bytes, width.div_ceil(8) as usize)?);
            if len == 0 {
                return Err("expected a run of at least one number, found an empty one".to_owned());
            }
            numbers.resize(numbers.len() + len.min(left), value);
        } else {
            // Groups of eight, of which the last may be filled up, and cut short by some writers.
            let n_packed = len.saturating_mul(8).min(left);
            let packed = take(&mut bytes, (n_packed * width as usize).div_ceil(8))?;
            if n_packed == 0 {
                return Err("expected a group of packed numbers, found none".to_owned());
            }
            numbers.extend((0..n_packed).map(|i| bits(packed, i * width as usize, width)));
            let rest = len.saturating_mul(width as usize) - packed.len();
            bytes = &bytes[rest.min(bytes.len())..];
        }
    }
    Ok(numbers)
}

/// Bits from `start` on, the lowest first.
fn bits(packed: &[u8], start: usize, width: u32) -> u32 {
    (0..width as usize).fold(0, |value, i| {
        let at = start + i;
        value | (u32::from(packed[at / 8] >> (at % 8) & 1) << i)
    })
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes
        .split_at_checked(len)
        .ok_or_else(|| format!("expected {len} bytes of packed numbers, found {}", bytes.len()))?;
    *bytes = rest;
    Ok(taken)
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn varint(bytes: &mut &[u8]) -> Result<u32, String> {
    let mut number = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number)
                .map_err(|_| format!("expected a length of 32 bits, found {number}"));
        }
    }
    Err("expected a length of at most 5 bytes, found a longer one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::decode;

    /// The example of Parquet's format description, Encodings.md: 0 to 7 in three bits each.
    #[test]
    fn packed_numbers_are_those_of_the_format_s_description() {
        let packed = [0b0000_0011, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(decode(&packed, 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(decode(&packed, 3, 5).unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn runs_and_groups_follow_each_other() {
        // Three times 260, eight packed numbers of nine bits, twice 1.
        let mut bytes = vec![3 << 1, 4, 1, 3];
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0b1000_0000]);
        bytes.extend([2 << 1, 1, 0]);
        assert_eq!(decode(&bytes, 9, 13).unwrap(), [260, 260, 260, 1, 0, 0, 0, 0, 0, 0, 256, 1, 1]);
        assert_eq!(decode(&[8], 0, 4).unwrap(), [0; 4], "no bits, no bytes");
    }

    #[test]
    fn what_is_cut_or_endless_is_an_error() {
        for bytes in [&[][..], &[3], &[3, 0x88], &[6, 4], &[0, 0], &[1], &[0xff; 6]] {
            assert!(decode(bytes, 9, 20).is_err(), "{bytes:?}");
        }
        assert!(decode(&[2, 0], 33, 1).is_err());
        assert_eq!(decode(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 7], 3, 4).unwrap(), [7; 4], "a run is cut at n");
    }
}
