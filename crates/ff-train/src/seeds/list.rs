//! Which seeds: so many, or these.

use std::str::FromStr;

use crate::config::ranges::{SEED, SEEDS};
use crate::{Error, Result};

/// Seeds, as a flag says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seeds {
    /// So many, from the configuration's on.
    Count(u64),
    /// These, of which none comes twice.
    List(Vec<u64>),
}

impl Seeds {
    /// The seeds, where `first` is the configuration's.
    ///
    /// # Errors
    /// There are not so many from `first` on.
    pub fn from_first(&self, first: u64) -> Result<Vec<u64>> {
        match self {
            Self::List(seeds) => Ok(seeds.clone()),
            Self::Count(n) if SEED.contains(&first.saturating_add(n - 1)) => Ok((first..first + n).collect()),
            Self::Count(n) => {
                let message = format!(
                    "expected at most {} for {n} seeds from it on, found {first}",
                    SEED.end() - (n - 1)
                );
                Err(Error::Config { origin: "train.seed".to_owned(), message })
            }
        }
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (most, last) = (SEEDS.end(), SEED.end());
        let Some(_) = text.find(',') else {
            let count = text.parse().ok().filter(|count| SEEDS.contains(count));
            let expected =
                || format!("expected a number from 1 to {most}, or seeds as 1,7,9; found `{text}`");
            return count.map(Self::Count).ok_or_else(expected);
        };
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let seed = part.trim().parse().ok().filter(|seed| SEED.contains(seed));
            let seed = seed.ok_or_else(|| format!("expected seeds from 0 to {last}, found `{part}`"))?;
            seeds.push(seed);
        }
        check(&seeds)?;
        Ok(Self::List(seeds))
    }
}

/// Whether runs can be trained with these.
///
/// # Errors
/// There are none, too many, or one comes twice.
pub(crate) fn check(seeds: &[u64]) -> Result<(), String> {
    if !SEEDS.contains(&(seeds.len() as u64)) {
        return Err(format!("expected from 1 to {} seeds, found {}", SEEDS.end(), seeds.len()));
    }
    let again = (1..seeds.len()).find(|&i| seeds[..i].contains(&seeds[i]));
    again.map_or(Ok(()), |i| Err(format!("expected each seed once, found {} twice", seeds[i])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_so_many_and_a_list_is_these() {
        let seeds = |text: &str, first| text.parse::<Seeds>().unwrap().from_first(first).unwrap();
        assert_eq!(seeds("3", 42), [42, 43, 44]);
        assert_eq!(seeds("1,7, 9", 42), [1, 7, 9]);
        assert_eq!(seeds("1", *SEED.end()), [*SEED.end()]);
        let message = Seeds::Count(2).from_first(*SEED.end()).unwrap_err().to_string();
        assert!(message.starts_with("train.seed: expected at most 9223372036854775806 for 2"), "{message}");
    }

    #[test]
    fn what_names_no_seeds_is_refused() {
        let refusal = |text: &str| text.parse::<Seeds>().unwrap_err();
        for text in ["", "0", "-1", "1001", "2.5", "five", "18446744073709551616"] {
            let expected = format!("expected a number from 1 to 1000, or seeds as 1,7,9; found `{text}`");
            assert_eq!(refusal(text), expected);
        }
        assert_eq!(refusal("1,7,1"), "expected each seed once, found 1 twice");
        assert_eq!(refusal("1,"), "expected seeds from 0 to 9223372036854775807, found ``");
        assert_eq!(refusal("1,-7"), "expected seeds from 0 to 9223372036854775807, found `-7`");
        let many: Vec<String> = (0..1001).map(|seed| seed.to_string()).collect();
        assert_eq!(refusal(&many.join(",")), "expected from 1 to 1000 seeds, found 1001");
    }
}
