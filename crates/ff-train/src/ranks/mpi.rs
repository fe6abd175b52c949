//! Ranks as processes of an MPI job.
//!
//! MPI is left in two ways only. [`MpiRanks::leave`] ends it for all ranks, and waits for them. Whatever else ends a
//! process ends it with MPI open, which every launcher takes as the end of the job: so an error or a panic of one rank
//! ends the others within seconds, where leaving MPI would wait for them for ever.
//!
//! A sum is an exchange of slices, a tree of additions over them, and a second exchange: the library's own reductions
//! add in an order that it chooses by size and number of ranks.

use std::mem::ManuallyDrop;

use ferrompi::{Communicator, Mpi, ThreadLevel};

use super::launcher::Place;
use super::{Ranks, share_of, tree};
use crate::{Error, Result};

/// Bytes of a broadcast at once: what MPI counts is an i32.
const MOST_BYTES: usize = 1 << 30;

/// This process among those of its job.
pub struct MpiRanks {
    mpi: ManuallyDrop<Mpi>,
    world: Communicator,
    rank: usize,
    size: usize,
    /// The ranks' parts of the slice that this rank adds.
    parts: Vec<f32>,
}

impl MpiRanks {
    /// Joins the job that a launcher has put this process into.
    ///
    /// # Errors
    /// MPI does not start, or says something else than the launcher: the program is built for another MPI.
    pub fn join(told: &Place) -> Result<Self> {
        let mpi = ManuallyDrop::new(Mpi::init_thread(ThreadLevel::Funneled).map_err(failed)?);
        let world = mpi.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if (rank, size) != (told.rank, told.size) {
            let library = Mpi::library_version().unwrap_or_default();
            let library = library.split(',').next().unwrap_or_default().trim();
            let message = format!(
                "{} says that this is process {} of {}, and MPI that it is {rank} of {size}: expected the launcher \
                 of the MPI that this program was built with, {library}",
                told.launcher, told.rank, told.size
            );
            return Err(Error::Launcher { message });
        }
        Ok(Self { mpi, world, rank, size, parts: Vec::new() })
    }

    /// Leaves MPI when all have come to this.
    pub fn leave(self) {
        ManuallyDrop::into_inner(self.mpi);
    }
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

    fn sum(&mut self, values: &mut [f32], n: usize) -> Result<()> {
        let slices: Vec<usize> =
            (0..self.size).map(|rank| share_of(rank, self.size, values.len()).len()).collect();
        let own = share_of(self.rank, self.size, values.len());
        let (counts, places) = blocks(&slices)?;
        let (own_counts, own_places) = blocks(&vec![own.len(); self.size])?;
        self.parts.resize(own.len() * self.size, 0.0);
        self.world
            .alltoallv(values, &counts, &places, &mut self.parts, &own_counts, &own_places)
            .map_err(failed)?;
        let mut sum = vec![0.0; own.len()];
        if !own.is_empty() {
            let parts: Vec<&[f32]> = self.parts.chunks(own.len()).take(n).collect();
            tree::sum_of(&parts, &mut sum);
        }
        self.world.allgatherv(&sum, values, &counts, &places).map_err(failed)
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
