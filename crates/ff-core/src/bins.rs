//! Bins of whole numbers, such as ages, in the order of their lower bounds.
//!
//! Class ids follow the label strings, where `more than 70` and `3-9` come after `60-69` and `20-29`. Whatever needs
//! the true order (one-off accuracy, ordinal losses, plots) gets it from here, by way of a label encoder.

use std::str::FromStr;

use crate::schema::Error;
use crate::text::shortened;

/// An interval of whole numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bin {
    /// Lowest number. `more than 70` and `70+` both have 70: FairFace's bin follows `60-69`.
    pub lower: u32,
    /// Highest number; `None` is open-ended.
    pub upper: Option<u32>,
}

/// The rank of every label in the order of the bins' lower bounds: 0 for the lowest.
///
/// # Errors
/// A label is no bin, or two bins have the same lower bound; the message says which.
pub(crate) fn ranks(labels: &[String]) -> Result<Vec<u32>, String> {
    let bins: Vec<Bin> =
        labels.iter().map(|label| label.parse()).collect::<Result<_, Error>>().map_err(|e| e.to_string())?;
    let mut ids: Vec<usize> = (0..bins.len()).collect();
    ids.sort_by_key(|&id| bins[id].lower);
    if let Some(pair) = ids.windows(2).find(|pair| bins[pair[0]].lower == bins[pair[1]].lower) {
        let [a, b] = [&labels[pair[0]], &labels[pair[1]]];
        return Err(format!("expected bins with distinct lower bounds, found {a:?} and {b:?}"));
    }
    let mut ranks = vec![0; ids.len()];
    for (rank, &id) in ids.iter().enumerate() {
        ranks[id] = rank as u32;
    }
    Ok(ranks)
}

impl FromStr for Bin {
    type Err = Error;

    /// `N-M`, `N+` or `more than N`.
    fn from_str(label: &str) -> Result<Self, Error> {
        let text = label.trim();
        let parse = || {
            if let Some(lower) = text.strip_prefix("more than ").or_else(|| text.strip_suffix('+')) {
                return Some(Bin { lower: whole_number(lower)?, upper: None });
            }
            let (lower, upper) = text.split_once('-')?;
            let (lower, upper) = (whole_number(lower)?, whole_number(upper)?);
            (lower <= upper).then_some(Bin { lower, upper: Some(upper) })
        };
        parse().ok_or_else(|| Error::BadBin(shortened(label)))
    }
}

/// Digits only: `u32::from_str` alone would take a sign.
fn whole_number(text: &str) -> Option<u32> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_parse() {
        let bin = |label: &str| label.parse::<Bin>();
        assert_eq!(bin("0-2").unwrap(), Bin { lower: 0, upper: Some(2) });
        assert_eq!(bin("10-19").unwrap(), Bin { lower: 10, upper: Some(19) });
        assert_eq!(bin("more than 70").unwrap(), Bin { lower: 70, upper: None });
        assert_eq!(bin("70+").unwrap(), Bin { lower: 70, upper: None });
        for label in
            ["", "-", "9-3", "+", "+5-9", "-3-9", "a-b", "more than", "70", "99999999999-999999999999"]
        {
            assert!(bin(label).is_err(), "{label:?} parses");
        }
        let error = ranks(&["70+", "more than 70"].map(str::to_owned)).unwrap_err();
        assert!(error.contains("distinct lower bounds"), "{error}");
    }
}
