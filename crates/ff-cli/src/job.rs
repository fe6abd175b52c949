//! With whom a process trains: alone, or in a job that a launcher has started it in, by MPI on CPUs or by NCCL on GPUs.

use std::time::Duration;

use ff_model::DeviceSpec;
use ff_train::Result;
#[cfg(feature = "mpi")]
use ff_train::ranks::mpi::{Membership, MpiRanks};
#[cfg(feature = "nccl")]
use ff_train::ranks::nccl::NcclRanks;
use ff_train::ranks::watched::Stalled;
#[cfg(any(feature = "mpi", feature = "nccl"))]
use ff_train::ranks::watched::Watched;
use ff_train::ranks::{Alone, Ranks, launcher};

/// A process's job.
pub enum Job {
    Alone(Alone),
    #[cfg(feature = "mpi")]
    Mpi(Watched<MpiRanks>, Membership),
    #[cfg(feature = "nccl")]
    Nccl(Watched<NcclRanks>),
}

impl Job {
    /// Joins the job that this process was started in, to compute on `device`. `stalled` hears of a rank that has not
    /// answered for `timeout`.
    pub fn join(
        device: DeviceSpec,
        timeout: Duration,
        stalled: impl FnOnce(Stalled) + Send + 'static,
    ) -> Result<Self> {
        match (launcher::place()?.filter(|place| place.size > 1), device) {
            (None, _) => Ok(Self::Alone(Alone)),
            #[cfg(feature = "nccl")]
            (Some(place), DeviceSpec::Cuda(_)) => {
                let ranks = NcclRanks::join(&place, timeout)?;
                Ok(Self::Nccl(Watched::new(ranks, timeout, stalled)?))
            }
            #[cfg(feature = "mpi")]
            (Some(place), _) => {
                let (ranks, membership) = MpiRanks::join(&place)?;
                Ok(Self::Mpi(Watched::new(ranks, timeout, stalled)?, membership))
            }
            #[cfg(not(feature = "mpi"))]
            (Some(place), _) => {
                // Nobody is waited for.
                drop((timeout, stalled));
                place.check_alone().map(|()| Self::Alone(Alone))
            }
        }
    }

    /// The ranks.
    pub fn ranks(&mut self) -> &mut dyn Ranks {
        match self {
            Self::Alone(alone) => alone,
            #[cfg(feature = "mpi")]
            Self::Mpi(ranks, _) => ranks,
            #[cfg(feature = "nccl")]
            Self::Nccl(ranks) => ranks,
        }
    }

    /// Leaves the others, when all have done their work: whoever has not must not come here.
    pub fn leave(self) -> Result<()> {
        match self {
            Self::Alone(_) => {}
            #[cfg(feature = "mpi")]
            Self::Mpi(ranks, membership) => {
                drop(ranks);
                membership.leave();
            }
            #[cfg(feature = "nccl")]
            Self::Nccl(ranks) => ranks.into_inner().leave()?,
        }
        Ok(())
    }
}
