//! Age bins in age order.
//!
//! Class ids follow the label strings, where `more than 70` and `3-9` come after `60-69` and `20-29`. Whatever needs
//! the true order (one-off accuracy, ordinal losses, plots) takes it from here, by each bin's lower bound.

use std::str::FromStr;

use crate::{
    error::{Error, Result, shortened},
    labels::LabelEncoder,
};

/// An age interval in whole years, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgeBin {
    /// Youngest age. `more than 70` and `70+` both have 70: FairFace's bin follows `60-69`.
    pub lower: u32,
    /// Oldest age; `None` is open-ended.
    pub upper: Option<u32>,
}

/// The rank of every class id in age order: `age_order(e)[id]` is 0 for the youngest bin.
///
/// # Errors
/// A label is no age bin, or two bins start at the same age.
pub fn age_order(encoder: &LabelEncoder) -> Result<Vec<u32>> {
    let bins: Vec<AgeBin> = encoder.labels().iter().map(|label| label.parse()).collect::<Result<_>>()?;
    let mut ids: Vec<usize> = (0..bins.len()).collect();
    ids.sort_by_key(|&id| bins[id].lower);
    if let Some(pair) = ids.windows(2).find(|pair| bins[pair[0]].lower == bins[pair[1]].lower) {
        let [a, b] = [&encoder.labels()[pair[0]], &encoder.labels()[pair[1]]];
        let reason = format!("expected age bins with distinct lower bounds, found {a:?} and {b:?}");
        return Err(Error::BadEncoder { task: encoder.task(), reason });
    }
    let mut ranks = vec![0; ids.len()];
    for (rank, &id) in ids.iter().enumerate() {
        ranks[id] = rank as u32;
    }
    Ok(ranks)
}

impl FromStr for AgeBin {
    type Err = Error;

    /// `N-M`, `N+` or `more than N`.
    fn from_str(label: &str) -> Result<Self> {
        let text = label.trim();
        let parse = || {
            if let Some(lower) = text.strip_prefix("more than ").or_else(|| text.strip_suffix('+')) {
                return Some(AgeBin { lower: years(lower)?, upper: None });
            }
            let (lower, upper) = text.split_once('-')?;
            let (lower, upper) = (years(lower)?, years(upper)?);
            (lower <= upper).then_some(AgeBin { lower, upper: Some(upper) })
        };
        parse().ok_or_else(|| Error::BadAgeBin(shortened(label)))
    }
}

/// Digits only: `u32::from_str` alone would take a sign.
fn years(text: &str) -> Option<u32> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
