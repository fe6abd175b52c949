//! Ranks as processes of an MPI job.
//!
//! MPI is left in two ways only. [`Membership::leave`] ends it for all ranks, and waits for them. Whatever else ends a
//! process ends it with MPI open, which every launcher takes as the end of the job: so an error or a panic of one rank
//! ends the others within seconds, where leaving MPI would wait for them for ever.
//!
//! A sum is an exchange of slices, a tree of additions over them, and a second exchange: the library's own reductions
//! add in an order that it chooses by size and number of ranks. It may run beside a backward pass that wants every core,
//! so it looks at its exchanges now and then, and sleeps in between, where MPI itself would spin.

use std::mem::ManuallyDrop;
use std::thread;
use std::time::Duration;

use ferrompi::{Communicator, Mpi, MpiDatatype, Request, ThreadLevel};

use super::dtype::{from_bf16, to_bf16};
use super::launcher::Place;
use super::{Ranks, ReduceDtype, share_of, tree};
use crate::{Error, Result};

/// Bytes of a broadcast at once: what MPI counts is an i32.
const MOST_BYTES: usize = 1 << 30;

/// Between two looks at an exchange: 1 Gbit/s brings 13 kB in that time, a tenth of what a socket holds.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// This process among those of its job.
pub struct MpiRanks {
    world: Communicator,
    rank: usize,
    size: usize,
    /// The ranks' parts of the slice that this rank adds.
    parts: Vec<f32>,
}

/// MPI, which is open until a process leaves it.
pub struct Membership(ManuallyDrop<Mpi>);

impl Membership {
    /// Leaves MPI when all have come to this.
    pub fn leave(self) {
        ManuallyDrop::into_inner(self.0);
    }
}

impl MpiRanks {
    /// Joins the job that a launcher has put this process into.
    ///
    /// # Errors
    /// MPI does not start, wants one thread for itself, or says something else than the launcher: the program is built
    /// for another MPI.
    pub fn join(told: &Place) -> Result<(Self, Membership)> {
        let mpi = ManuallyDrop::new(Mpi::init_thread(ThreadLevel::Serialized).map_err(failed)?);
        let world = mpi.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let library = Mpi::library_version().unwrap_or_default();
        // Both go on with how they were built.
        let library = library.split([',', '\n']).next().unwrap_or_default().trim();
        if (rank, size) != (told.rank, told.size) {
            let message = format!(
                "{} says that this is process {} of {}, and MPI that it is {rank} of {size}: expected the launcher \
                 of the MPI that this program was built with, {library}",
                told.launcher, told.rank, told.size
            );
            return Err(Error::Launcher { message });
        }
        let level = mpi.thread_level();
        if level < ThreadLevel::Serialized {
            let message = format!(
                "{library}: expected threads that take turns (MPI_THREAD_SERIALIZED), found {level:?}"
            );
            return Err(Error::Mpi { message });
        }
        Ok((Self { world, rank, size, parts: Vec::new() }, Membership(mpi)))
    }

    /// Gives each rank its slice of `values`; gives all ranks' parts of this rank's slice, one after the other.
    fn exchange<T: MpiDatatype + Default + Clone>(
        &self,
        values: &[T],
        slices: &[usize],
        parts: &mut Vec<T>,
    ) -> Result<()> {
        let own = slices[self.rank];
        let (counts, places) = blocks(slices)?;
        let (own_counts, own_places) = blocks(&vec![own; self.size])?;
        parts.resize(own * self.size, T::default());
        let world = &self.world;
        ferrompi::scope(|scope| {
            let exchange =
                world.ialltoallv(scope, values, &counts, &places, parts, &own_counts, &own_places)?;
            wait(exchange)
        })
        .map_err(failed)
    }

    /// Gives every rank everybody's slice.
    fn spread<T: MpiDatatype>(&self, slice: &[T], slices: &[usize], values: &mut [T]) -> Result<()> {
        let (counts, places) = blocks(slices)?;
        let world = &self.world;
        ferrompi::scope(|scope| wait(world.iallgatherv(scope, slice, values, &counts, &places)?))
            .map_err(failed)
    }
}

fn wait(mut exchange: Request<'_>) -> ferrompi::Result<()> {
    while exchange.test()?.is_none() {
        thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

impl Ranks for MpiRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut lengths = vec![0u64; self.size];
        self.world.allgather(&[bytes.len() as u64], &mut lengths).map_err(failed)?;
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let mut all = vec![0; lengths.iter().sum()];
        let (counts, places) = blocks(&lengths)?;
        self.world.allgatherv(bytes, &mut all, &counts, &places).map_err(failed)?;
        let mut rest = all.as_slice();
        Ok(lengths
            .into_iter()
            .map(|length| {
                let (own, others) = rest.split_at(length);
                rest = others;
                own.to_vec()
            })
            .collect())
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let mut length = [bytes.len() as u64];
        self.world.broadcast(&mut length, 0).map_err(failed)?;
        bytes.resize(length[0] as usize, 0);
        bytes.chunks_mut(MOST_BYTES).try_for_each(|part| self.world.broadcast(part, 0)).map_err(failed)
    }

    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()> {
        let slices: Vec<usize> =
            (0..self.size).map(|rank| share_of(rank, self.size, values.len()).len()).collect();
        let mut parts = std::mem::take(&mut self.parts);
        let sum_of = |parts: &[f32]| {
            let mut sum = vec![0.0; slices[self.rank]];
            if !sum.is_empty() {
                let parts: Vec<&[f32]> = parts.chunks(sum.len()).take(n).collect();
                tree::sum_of(&parts, &mut sum);
            }
            sum
        };
        match dtype {
            ReduceDtype::F32 => {
                self.exchange(values, &slices, &mut parts)?;
                self.spread(&sum_of(&parts), &slices, values)?;
            }
            ReduceDtype::Bf16 => {
                let bytes: Vec<usize> = slices.iter().map(|len| len * dtype.size()).collect();
                let (mut all, mut received) = (to_bf16(values), Vec::new());
                self.exchange(&all, &bytes, &mut received)?;
                parts.resize(received.len() / dtype.size(), 0.0);
                from_bf16(&received, &mut parts);
                self.spread(&to_bf16(&sum_of(&parts)), &bytes, &mut all)?;
                from_bf16(&all, values);
            }
        }
        self.parts = parts;
        Ok(())
    }
}

/// Lengths and beginnings of blocks that lie one after the other, as MPI counts.
fn blocks(lengths: &[usize]) -> Result<(Vec<i32>, Vec<i32>)> {
    let (mut counts, mut places, mut end) = (Vec::new(), Vec::new(), 0);
    for &length in lengths {
        places.push(end as i32);
        counts.push(length as i32);
        end += length;
    }
    let most = i32::MAX as usize;
    if end > most {
        let message = format!("expected at most {most} elements in an exchange, found {end}");
        return Err(Error::Mpi { message });
    }
    Ok((counts, places))
}

fn failed(error: ferrompi::Error) -> Error {
    Error::Mpi { message: error.to_string() }
}
