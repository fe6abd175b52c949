//! With whom a process trains: alone, or in an MPI job that a launcher has started it in.

use std::time::Duration;

use ff_train::Result;
use ff_train::ranks::mpi::{Membership, MpiRanks};
use ff_train::ranks::watched::{Stalled, Watched};
use ff_train::ranks::{Alone, Ranks, launcher};

/// A process's job.
pub enum Job {
    Alone(Alone),
    Mpi(Watched<MpiRanks>, Membership),
}

impl Job {
    /// Joins the job that this process was started in. `stalled` hears of a rank that has not answered for `timeout`.
    pub fn join(timeout: Duration, stalled: impl FnOnce(Stalled) + Send + 'static) -> Result<Self> {
        match launcher::place()?.filter(|place| place.size > 1) {
            None => Ok(Self::Alone(Alone)),
            Some(place) => {
                let (ranks, membership) = MpiRanks::join(&place)?;
                Ok(Self::Mpi(Watched::new(ranks, timeout, stalled)?, membership))
            }
        }
    }

    /// The ranks.
    pub fn ranks(&mut self) -> &mut dyn Ranks {
        match self {
            Self::Alone(alone) => alone,
            Self::Mpi(ranks, _) => ranks,
        }
    }

    /// Leaves the others, when all have done their work: whoever has not must not come here.
    pub fn leave(self) {
        if let Self::Mpi(ranks, membership) = self {
            drop(ranks);
            membership.leave();
        }
    }
}
