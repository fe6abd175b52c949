//! Ranks: processes that train one model together, and what they say to each other.
//!
//! A step's batches are shared among the ranks, and whatever decides how a run goes on is computed on every rank from
//! the same bytes. So ranks need three things of each other: everybody's bytes, the first one's bytes, and a sum.
//! They all ask for the same things in the same order.
//!
//! Sums are of one tree, whoever adds them: see [`tree`]. A gradient's go out while the rest of it is computed:
//! [`parts`]. A process that trains alone is [`Alone`]; with the feature
//! `mpi` ranks are processes of an MPI job, with `nccl` each has a GPU and they find each other by [`rendezvous`];
//! [`threads`] are ranks within a process, for tests of whatever uses ranks. [`launcher`] tells what a process was
//! started as, [`watched`] what waits for ever.

mod dtype;
pub mod launcher;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
pub mod parts;
pub mod rendezvous;
pub mod threads;
pub mod tree;
pub mod watched;

use std::ops::Range;

use candle_core::Tensor;
use ff_model::host::with_slice_mut;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};
pub use dtype::ReduceDtype;

/// What a process knows of the others that train with it. One thread at a time talks to them, not always the same.
pub trait Ranks: Send {
    /// Which of them it is, from 0.
    fn rank(&self) -> usize;

    /// How many there are, itself included.
    fn size(&self) -> usize;

    /// Which GPU of its machine is its own, where each of them has one.
    fn gpu(&self) -> Option<usize> {
        None
    }

    /// Says which step comes next, from 1, for whoever tells where a rank is.
    fn at_step(&mut self, _step: u64) {}

    /// Everybody's bytes, by rank.
    ///
    /// # Errors
    /// A rank is gone.
    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// What the first rank has in `bytes`, which need not be anything elsewhere.
    ///
    /// # Errors
    /// A rank is gone.
    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()>;

    /// Replaces `values` by the sum of those of the first `n` ranks, in the order of [`tree`]: the same bits
    /// everywhere. The others' values count nothing. They travel as `dtype`.
    ///
    /// # Errors
    /// A rank is gone.
    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()>;

    /// As [`Ranks::sum`], of a contiguous tensor (N,) of f32 wherever it is.
    ///
    /// # Errors
    /// A rank is gone; it is another kind of tensor.
    fn sum_tensor(&mut self, tensor: &Tensor, n: usize, dtype: ReduceDtype) -> Result<()> {
        if tensor.device().is_cpu() {
            return with_slice_mut(tensor, |values| Ok(self.sum(values, n, dtype)))?;
        }
        let mut values = tensor.to_vec1::<f32>()?;
        self.sum(&mut values, n, dtype)?;
        Ok(tensor.slice_set(&Tensor::new(values, tensor.device())?, 0, 0)?)
    }
}

impl<R: Ranks + ?Sized> Ranks for &mut R {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn gpu(&self) -> Option<usize> {
        (**self).gpu()
    }

    fn at_step(&mut self, step: u64) {
        (**self).at_step(step);
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        (**self).gather(bytes)
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        (**self).broadcast(bytes)
    }

    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()> {
        (**self).sum(values, n, dtype)
    }

    fn sum_tensor(&mut self, tensor: &Tensor, n: usize, dtype: ReduceDtype) -> Result<()> {
        (**self).sum_tensor(tensor, n, dtype)
    }
}

/// A process that trains alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn broadcast(&mut self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn sum(&mut self, _: &mut [f32], _: usize, _: ReduceDtype) -> Result<()> {
        Ok(())
    }
}

/// Which of these batches of an epoch are this rank's, where each step has `accumulate` of them and ranks take equal
/// parts of a step in their order. `batches` begins with a step.
pub fn share_of_steps(
    ranks: &dyn Ranks,
    batches: Range<usize>,
    accumulate: usize,
) -> impl Iterator<Item = usize> + use<> {
    let (rank, share) = (ranks.rank(), accumulate / ranks.size());
    batches.filter(move |place| place % accumulate / share == rank)
}

/// A rank's part of `n` things, all parts in the order of the ranks.
pub fn share_of(rank: usize, size: usize, n: usize) -> Range<usize> {
    rank * n / size..(rank + 1) * n / size
}

/// Whether any rank says so.
pub fn on_any(ranks: &mut dyn Ranks, here: bool) -> Result<bool> {
    Ok(ranks.gather(&[u8::from(here)])?.iter().any(|said| said == &[1]))
}

/// What the first rank says; the others need not say anything.
///
/// # Panics
/// The first rank says nothing.
pub fn from_first<T: Serialize + DeserializeOwned>(ranks: &mut dyn Ranks, value: Option<T>) -> Result<T> {
    let first = ranks.rank() == 0;
    let mut bytes = Vec::new();
    if let Some(value) = value.as_ref().filter(|_| first) {
        bytes = serde_json::to_vec(value).expect("what ranks tell is JSON");
    }
    ranks.broadcast(&mut bytes)?;
    match value.filter(|_| first) {
        Some(value) => Ok(value),
        None => Ok(serde_json::from_slice(&bytes).expect("it was written by the same program")),
    }
}

/// Ends an undertaking in the same way everywhere: where it failed on any rank, it failed on all.
///
/// # Errors
/// The lowest failing rank's own; elsewhere [`Error::OnRank`] with its message.
pub fn together<T>(ranks: &mut dyn Ranks, result: Result<T>) -> Result<T> {
    let failed = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let said = ranks.gather(failed.as_bytes())?;
    match said.iter().position(|message| !message.is_empty()) {
        Some(rank) if rank != ranks.rank() => {
            let message = String::from_utf8_lossy(&said[rank]).into_owned();
            Err(Error::OnRank { rank, message })
        }
        _ => result,
    }
}

/// Holds what the ranks know against each other: facts, each with its name.
///
/// # Errors
/// [`Error::RanksDiffer`] names the first fact that differs from the first rank's; the same everywhere.
pub fn check_alike(ranks: &mut dyn Ranks, facts: &[(String, String)]) -> Result<()> {
    let all = ranks.gather(&serde_json::to_vec(facts).expect("facts are text"))?;
    let read =
        |bytes: &Vec<u8>| -> Vec<(String, String)> { serde_json::from_slice(bytes).unwrap_or_default() };
    let expected = read(&all[0]);
    for (rank, found) in all.iter().map(read).enumerate() {
        let names = expected.iter().chain(&found).map(|(name, _)| name);
        let value = |facts: &[(String, String)], name: &str| {
            let fact = facts.iter().find(|(known, _)| known == name);
            fact.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        for what in names {
            let (expected, found) = (value(&expected, what), value(&found, what));
            if expected != found {
                return Err(Error::RanksDiffer { rank, what: what.clone(), expected, found });
            }
        }
    }
    Ok(())
}
