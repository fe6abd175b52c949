//! The order in which things are added: a balanced tree over their places.
//!
//! Places are halved at the largest power of two below their number, and halves are halved in the same way. Blocks of
//! `2^k` that begin at a multiple of `2^k` are subtrees, so whoever adds such a block alone and the blocks' sums
//! afterwards gets the bits of who adds everything at once. A place that is left out at the end changes nothing for the
//! others.

/// Adds leaves as they come, and keeps no more of them than there are bits in their number.
#[derive(Debug)]
pub struct TreeSum<T> {
    /// Sums of `2^level` leaves that still wait for their other half.
    levels: Vec<Option<T>>,
}

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T> TreeSum<T> {
    /// Whether the next leaf is added to another one at once.
    pub fn is_awaited(&self) -> bool {
        self.levels.first().is_some_and(Option::is_some)
    }

    /// Takes the next leaf; `add` adds a later sum to an earlier one.
    pub fn push<E>(&mut self, leaf: T, add: impl Fn(T, T) -> Result<T, E>) -> Result<(), E> {
        let mut carry = leaf;
        for level in &mut self.levels {
            match level.take() {
                None => {
                    *level = Some(carry);
                    return Ok(());
                }
                Some(earlier) => carry = add(earlier, carry)?,
            }
        }
        self.levels.push(Some(carry));
        Ok(())
    }

    /// The sums that wait, the latest first. The sum of all leaves is a last leaf to which each of them is added.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.levels.iter().flatten()
    }

    /// The sum of all leaves, if there are any.
    pub fn finish<E>(self, add: impl Fn(T, T) -> Result<T, E>) -> Result<Option<T>, E> {
        let mut sums = self.levels.into_iter().flatten();
        let Some(last) = sums.next() else { return Ok(None) };
        sums.try_fold(last, |later, earlier| add(earlier, later)).map(Some)
    }
}

/// The sum of as many vectors as there are parts, all as long as `sum`.
///
/// # Panics
/// There are none, or their lengths differ.
pub fn sum_of(parts: &[&[f32]], sum: &mut [f32]) {
    for (run, sum) in sum.chunks_mut(RUN).enumerate() {
        sum_of_run(parts, run * RUN, sum);
    }
}

/// Values that are added at once: what waits for its other half stays in the nearest cache.
const RUN: usize = 1024;

/// The same of up to [`RUN`] values from `start` on.
fn sum_of_run(parts: &[&[f32]], start: usize, sum: &mut [f32]) {
    let here = start..start + sum.len();
    let add = |sum: &mut [f32], later: &[f32]| {
        assert_eq!(sum.len(), later.len(), "vectors of one length");
        sum.iter_mut().zip(later).for_each(|(sum, later)| *sum += later);
    };
    match parts {
        [] => panic!("expected parts to add, found none"),
        [one] => sum.copy_from_slice(&one[here]),
        _ => {
            let (earlier, later) = parts.split_at(1 << (parts.len() - 1).ilog2());
            sum_of_run(earlier, start, sum);
            if let [one] = later {
                return add(sum, &one[here]);
            }
            let mut rest = [0.0; RUN];
            let rest = &mut rest[..sum.len()];
            sum_of_run(later, start, rest);
            add(sum, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn text(earlier: String, later: String) -> Result<String, Infallible> {
        Ok(format!("({earlier}{later})"))
    }

    fn tree(leaves: impl IntoIterator<Item = String>) -> Option<String> {
        let mut sum = TreeSum::default();
        leaves.into_iter().for_each(|leaf| sum.push(leaf, text).unwrap());
        sum.finish(text).unwrap()
    }

    fn letters(n: usize) -> impl Iterator<Item = String> {
        ('a'..).take(n).map(String::from)
    }

    #[test]
    fn the_tree_is_balanced_from_the_left() {
        assert_eq!(tree([]), None);
        assert_eq!(tree(letters(1)).unwrap(), "a");
        assert_eq!(tree(letters(3)).unwrap(), "((ab)c)");
        assert_eq!(tree(letters(4)).unwrap(), "((ab)(cd))");
        assert_eq!(tree(letters(7)).unwrap(), "(((ab)(cd))((ef)g))");
    }

    proptest! {
        /// However many leaves there are and whatever power of two a block has, the last of them short.
        #[test]
        fn sums_of_blocks_are_subtrees(n in 1usize..26, exponent in 0u32..5) {
            let leaves: Vec<String> = letters(n).collect();
            let blocks = leaves.chunks(1 << exponent).map(|block| tree(block.iter().cloned()).unwrap());
            prop_assert_eq!(tree(blocks), tree(leaves.iter().cloned()));
        }

        #[test]
        fn a_last_leaf_needs_not_be_taken(n in 1usize..26) {
            let mut sum = TreeSum::default();
            let leaves: Vec<String> = letters(n).collect();
            leaves[..n - 1].iter().for_each(|leaf| sum.push(leaf.clone(), text).unwrap());
            let last = leaves[n - 1].clone();
            let found = sum.waiting().fold(last, |later, earlier| text(earlier.clone(), later).unwrap());
            prop_assert_eq!(Some(found), tree(leaves));
        }

        #[test]
        fn vectors_are_added_in_that_order(n in 1usize..9, len in prop::sample::select(vec![0usize, 1, 1024, 3000])) {
            let value = |part: usize, at: usize| ((part * 7919 + at * 104_729) % 1009) as f32 * 0.37 - 180.0;
            let parts: Vec<Vec<f32>> = (0..n).map(|part| (0..len).map(|at| value(part, at)).collect()).collect();
            let mut found = vec![0.0; len];
            sum_of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut found);
            for (at, found) in found.iter().enumerate() {
                let add = |a: f32, b: f32| Ok::<_, Infallible>(a + b);
                let mut sum = TreeSum::default();
                parts.iter().for_each(|part| sum.push(part[at], add).unwrap());
                prop_assert_eq!(found.to_bits(), sum.finish(add).unwrap().unwrap().to_bits());
            }
        }
    }
}
