//! In place of `job.rs` in a build without MPI: a process trains alone, or not at all.

use std::time::Duration;

use ff_train::Result;
use ff_train::ranks::watched::Stalled;
use ff_train::ranks::{Alone, Ranks, launcher};

/// A process's job.
pub struct Job(Alone);

impl Job {
    pub fn join(_: Duration, _: impl FnOnce(Stalled) + Send + 'static) -> Result<Self> {
        launcher::place()?.map_or(Ok(()), |place| place.check_alone())?;
        Ok(Self(Alone))
    }

    pub fn ranks(&mut self) -> &mut dyn Ranks {
        &mut self.0
    }

    pub fn leave(self) {}
}
