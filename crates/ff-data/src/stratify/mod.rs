//! A pool of labelled rows -> train, validation and test, each with the pool's mix of labels.
//!
//! A stratum is one combination of labels (race x gender x age), or of values of any other columns; where one is not
//! known, that is a value of its own. The split is a function of (rows, groups, ratios,
//! seed, columns) and is the same on every machine. Rows of a group (duplicates) go to one side together; without
//! groups every total is exact and every stratum's count is its share rounded down or up. Files are not touched here
//! but by [`SplitFolder`].

mod folder;
mod pool;
mod quotas;

use std::{collections::BTreeMap, str::FromStr};

use ff_core::{
    random::{Purpose, below, generator, shuffle},
    text::{list, shortened},
};
pub(crate) use folder::check_whole;
pub use folder::{OldFiles, SplitFolder};
pub use pool::pool;

use crate::{
    error::{Error, Result},
    manifest::{Manifest, Row},
    split::Split,
};

/// How a pool is to be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitSpec {
    /// Shares of train, validation and test.
    pub ratios: Ratios,
    /// The seed that decides which rows go where.
    pub seed: u64,
    /// Tasks or other columns; combinations of their values are the strata. None makes one stratum of all.
    pub stratify: Vec<String>,
}

/// Shares of train, validation and test, in millionths: whole numbers, so that their sum is exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratios([u32; 3]);

/// Which split every row of a pool goes to.
#[derive(Debug, Clone)]
pub struct SplitPlan {
    /// `(N)` the split of every row.
    pub sides: Vec<Split>,
    /// Rows in train, validation and test.
    pub counts: [usize; 3],
    /// What the ratios ask for; `counts` differ only where groups could not be divided.
    pub targets: [usize; 3],
    /// Combinations of labels that occur.
    pub n_strata: usize,
    /// The largest distance of a stratum's count in a split from its exact share, in rows; below 1 without groups.
    pub largest_deviation: f64,
}

impl SplitPlan {
    /// Splits a pool. `groups` are row indices that must stay together, each row in one group at most.
    ///
    /// # Errors
    /// The pool has no task or column of a name in `spec.stratify`; the message has those that there are.
    ///
    /// # Panics
    /// A group names a row that is not there, or one that another group has.
    pub fn new(pool: &Manifest, groups: &[Vec<usize>], spec: &SplitSpec) -> Result<Self> {
        let (stratum_of, sizes) = strata(pool, &spec.stratify)?;
        let quotas = quotas::quotas(&sizes, &spec.ratios);
        let sides = Rows { stratum_of: &stratum_of, room: signed(&quotas) }.assign(groups, spec.seed);

        let mut found = vec![[0_usize; 3]; sizes.len()];
        for (&stratum, &side) in stratum_of.iter().zip(&sides) {
            found[stratum][side as usize] += 1;
        }
        let deviations = found.iter().zip(&sizes).flat_map(|(found, &size)| {
            let off = |split: usize| found[split] as f64 - size as f64 * spec.ratios.share(split);
            [0, 1, 2].map(|split| off(split).abs())
        });
        Ok(SplitPlan {
            counts: [0, 1, 2].map(|split| found.iter().map(|found| found[split]).sum()),
            targets: quotas::totals(pool.len(), &spec.ratios),
            n_strata: sizes.len(),
            largest_deviation: deviations.fold(0.0, f64::max),
            sides,
        })
    }

    /// The rows of one split, in the pool's order, with the split's name in the column `split`.
    ///
    /// # Errors
    /// The pool has as many columns as there may be, and none is called so.
    ///
    /// # Panics
    /// The plan is another pool's.
    pub fn manifest(&self, pool: &Manifest, split: Split) -> Result<Manifest> {
        assert_eq!(pool.len(), self.sides.len(), "expected the pool that was split");
        const COLUMN: &str = "split";
        let mut columns = pool.extra_columns().to_vec();
        let place = columns.iter().position(|name| name == COLUMN).unwrap_or(columns.len());
        columns.resize(columns.len().max(place + 1), COLUMN.to_owned());
        let rows = pool.rows().iter().zip(&self.sides).filter(|&(_, &side)| side == split);
        let rows = rows.map(|(row, _)| {
            let mut row = row.clone();
            row.extra.resize(columns.len(), String::new());
            row.extra[place] = split.name().to_owned();
            row
        });
        let rows: Vec<Row> = rows.collect();
        Manifest::new(split.file_name(), pool.schema(), columns, rows)
    }
}

impl Ratios {
    const ONE: u32 = 1_000_000;

    /// Checks shares and rounds them to millionths.
    ///
    /// # Errors
    /// A share below 0, none for training, or shares that do not sum to 1.
    pub fn new(shares: [f64; 3]) -> Result<Self> {
        let millionths = shares.map(|share| (share * f64::from(Self::ONE)).round());
        let sum: f64 = millionths.iter().sum();
        if millionths.iter().all(|&share| share >= 0.0) && millionths[0] > 0.0 && sum == f64::from(Self::ONE)
        {
            return Ok(Ratios(millionths.map(|share| share as u32)));
        }
        let [train, val, test] = shares;
        Err(Error::Config(format!(
            "ratios: expected three shares from 0 on that sum to 1, the first above 0, found {train}, {val}, {test}"
        )))
    }

    /// The share of train (0), validation (1) or test (2).
    fn share(&self, split: usize) -> f64 {
        f64::from(self.0[split]) / f64::from(Self::ONE)
    }
}

impl FromStr for Ratios {
    type Err = Error;

    /// `0.75,0.15,0.10`.
    fn from_str(text: &str) -> Result<Self> {
        let shares: Option<Vec<f64>> = text.split(',').map(|share| share.trim().parse().ok()).collect();
        match shares.as_deref() {
            Some(&[train, val, test]) => Self::new([train, val, test]),
            _ => Err(Error::Config(format!(
                "ratios: expected three numbers such as 0.75,0.15,0.10, found {text:?}"
            ))),
        }
    }
}

/// The stratum of every row, and every stratum's size; strata are numbered in the order of their values.
fn strata(pool: &Manifest, columns: &[String]) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut values: Vec<Vec<&str>> = vec![Vec::with_capacity(columns.len()); pool.len()];
    for name in columns {
        let column = pool.column(name).ok_or_else(|| {
            let (known, found) = (list(&pool.column_names()), shortened(name));
            Error::Config(format!("stratify: expected columns among {known}, found {found:?}"))
        })?;
        values.iter_mut().zip(column).for_each(|(values, value)| values.push(value));
    }
    let mut sizes: BTreeMap<&[&str], usize> = BTreeMap::new();
    for values in &values {
        *sizes.entry(values).or_default() += 1;
    }
    let ids: BTreeMap<&[&str], usize> = sizes.keys().copied().zip(0..).collect();
    let stratum_of = values.iter().map(|values| ids[values.as_slice()]).collect();
    Ok((stratum_of, sizes.values().copied().collect()))
}

fn signed(quotas: &[[usize; 3]]) -> Vec<[i64; 3]> {
    quotas.iter().map(|quota| quota.map(|count| count as i64)).collect()
}

/// Rows to be placed, and how many more of each stratum each split takes; below 0 after a group that did not fit.
struct Rows<'a> {
    stratum_of: &'a [usize],
    room: Vec<[i64; 3]>,
}

impl Rows<'_> {
    /// Groups first, the largest first; then row by row what is left, which fills the room exactly.
    fn assign(mut self, groups: &[Vec<usize>], seed: u64) -> Vec<Split> {
        let mut rng = generator(Purpose::Split, seed, 0, 0);
        let mut order: Vec<usize> = (0..self.stratum_of.len()).collect();
        shuffle(&mut rng, &mut order);
        let mut groups: Vec<&Vec<usize>> = groups.iter().collect();
        shuffle(&mut rng, &mut groups);
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));

        let mut sides = vec![None; order.len()];
        for group in groups {
            let side = self.side(group, &mut rng);
            for &row in group {
                assert!(sides[row].is_none(), "expected each row in one group at most");
                self.place(row, side, &mut sides);
            }
        }
        for row in order {
            if sides[row].is_none() {
                // From the smallest split on, so that what a group took too much is missing in the largest.
                let room = self.room[self.stratum_of[row]];
                let side = (0..3).rev().find(|&side| room[side] > 0);
                self.place(row, side.expect("the room of a stratum is its rows"), &mut sides);
            }
        }
        sides.into_iter().map(|side| side.expect("every row was placed")).collect()
    }

    fn place(&mut self, row: usize, side: usize, sides: &mut [Option<Split>]) {
        self.room[self.stratum_of[row]][side] -= 1;
        sides[row] = Some(Split::ALL[side]);
    }

    /// The side where fewest of a group's rows find no room; of several, one drawn by their room, so that duplicates
    /// do not gather in one split.
    fn side(&self, group: &[usize], rng: &mut impl rand::RngCore) -> usize {
        let mut members: BTreeMap<usize, i64> = BTreeMap::new();
        for &row in group {
            *members.entry(self.stratum_of[row]).or_default() += 1;
        }
        let room = |stratum: usize, side: usize| self.room[stratum][side].max(0);
        let without_room =
            [0, 1, 2].map(|side| members.iter().map(|(&s, &n)| (n - room(s, side)).max(0)).sum::<i64>());
        let fewest = without_room.into_iter().min().expect("there are three");
        let weights = [0, 1, 2].map(|side| {
            let total: i64 = members.keys().map(|&s| room(s, side)).sum();
            if without_room[side] == fewest { total as u32 } else { 0 }
        });
        let total = weights.iter().sum();
        if total == 0 {
            return without_room.iter().position(|&n| n == fewest).expect("it is one of them");
        }
        let mut draw = below(rng, total);
        for (side, weight) in weights.into_iter().enumerate() {
            match draw.checked_sub(weight) {
                None => return side,
                Some(rest) => draw = rest,
            }
        }
        unreachable!("a draw is below the sum of the weights")
    }
}
