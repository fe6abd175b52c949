//! Sums that travel while the rest of a vector is still being made.
//!
//! One thread adds the parts over ranks in the order in which they are given away, another one makes the others. Nothing
//! is copied: who gives a part away has no more of it. Every rank gives the same parts.

use std::sync::mpsc;
use std::thread;

use super::{Ranks, ReduceDtype};
use crate::Result;

/// Adds the parts that `make` gives away, those of the first `n` ranks, while it makes others. `before` sees each part
/// first, on the thread that adds.
///
/// # Errors
/// A rank is gone, `before` fails, or the system has no thread.
pub fn sum_while_making<'v, T>(
    ranks: &mut dyn Ranks,
    (n, dtype): (usize, ReduceDtype),
    mut before: impl FnMut(&mut [f32]) -> Result<()> + Send,
    make: impl FnOnce(&mut dyn FnMut(&'v mut [f32])) -> T,
) -> Result<T> {
    let (give, parts) = mpsc::channel::<&'v mut [f32]>();
    thread::scope(|scope| {
        let add = move || {
            parts.into_iter().try_for_each(|part| {
                before(part)?;
                ranks.sum(part, n, dtype)
            })
        };
        let adding = thread::Builder::new().name("ff-train sums".to_owned()).spawn_scoped(scope, add)?;
        // One that no longer takes them has an error to tell.
        let made = make(&mut |part| drop(give.send(part)));
        drop(give);
        adding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(made)
    })
}

/// Gives a vector away in parts that begin at these places, from the last one to the first. What lies before all of them
/// stays.
///
/// # Panics
/// The places do not fall, or one is beyond the vector.
pub fn give<'v>(mut vector: &'v mut [f32], begins: &[usize], done: &mut dyn FnMut(&'v mut [f32])) {
    for &begin in begins {
        let (before, part) = vector.split_at_mut(begin);
        done(part);
        vector = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads;

    #[test]
    fn parts_are_added_as_the_whole_is() {
        let found = threads::run(3, |ranks| {
            let mut values: Vec<f32> = (0..10).map(|i| (i + ranks.rank() * 10) as f32).collect();
            let mut seen = Vec::new();
            let before = |part: &mut [f32]| {
                seen.push(part.len());
                part.iter_mut().for_each(|value| *value += 0.5);
                Ok(())
            };
            let reduce = (2, ReduceDtype::F32);
            sum_while_making(ranks, reduce, before, |done| give(&mut values, &[7, 2], done)).unwrap();
            (values[2..].to_vec(), seen)
        });
        let expected: Vec<f32> = (2..10).map(|i| (2 * i + 11) as f32).collect();
        assert_eq!(found, vec![(expected, vec![3, 5]); 3]);
    }

    #[test]
    fn a_rank_that_goes_ends_the_sum_and_not_the_making() {
        let found = threads::run(2, |ranks| {
            let mut values = [1.0; 4];
            let mut made = false;
            if ranks.rank() == 1 {
                return (true, true);
            }
            let sum = sum_while_making(
                ranks,
                (2, ReduceDtype::F32),
                |_| Ok(()),
                |done| {
                    give(&mut values, &[2, 0], done);
                    made = true;
                },
            );
            (sum.is_err(), made)
        });
        assert_eq!(found, [(true, true); 2]);
    }
}
