//! With whom a process trains: alone, or in an MPI job that a launcher has started it in.

use std::time::Duration;

use ff_train::Result;
use ff_train::ranks::mpi::MpiRanks;
use ff_train::ranks::watched::{Stalled, Watched};
use ff_train::ranks::{Alone, Ranks, launcher};

/// A process's job.
pub enum Job {
    Alone(Alone),
    Mpi(Watched<MpiRanks>),
}

impl Job {
    /// Joins the job that this process was started in. `stalled` hears of a rank that has not answered for `timeout`.
    pub fn join(timeout: Duration, stalled: impl FnOnce(Stalled) + Send + 'static) -> Result<Self> {
        match launcher::place()?.filter(|place| place.size > 1) {
            None => Ok(Self::Alone(Alone)),
            Some(place) => Ok(Self::Mpi(Watched::new(MpiRanks::join(&place)?, timeout, stalled)?)),
        }
    }

    /// The ranks.
    pub fn ranks(&mut self) -> &mut dyn Ranks {
        match self {
            Self::Alone(alone) => alone,
            Self::Mpi(ranks) => ranks,
        }
    }

    /// Leaves the others, when all have done their work: whoever has not must not come here.
    pub fn leave(self) {
        if let Self::Mpi(ranks) = self {
            ranks.into_inner().leave();
        }
    }
}
