//! Ranks with a GPU each, by NCCL.
//!
//! A gradient is added where it lies, on the device, in the order of [`tree`](super::tree). NCCL notices a rank that has
//! gone where a network is between them, and not where they share memory: so the connections by which ranks found each
//! other are looked at while one waits, and say who it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ff_kernels::gpu::device::nccl::{Communicator, unique_id};
use ff_kernels::gpu::device::{Error as GpuError, Gpu};

use super::launcher::{MeetingPoint, Place};
use super::rendezvous::Links;
use super::{Ranks, ReduceDtype};
use crate::{Error, Result};

/// After NCCL has failed, who has gone is known about then.
const NEWS_TAKE: Duration = Duration::from_secs(1);

/// This process among those of its job.
pub struct NcclRanks {
    communicator: Communicator,
    links: Arc<Mutex<Links>>,
    gpu: usize,
}

impl NcclRanks {
    /// Joins the job that a launcher has put this process into, with the GPU of its place on its machine, or with the
    /// only one that it sees.
    ///
    /// # Errors
    /// The others do not come before `timeout` is over; there is no such GPU, or another rank has it.
    pub fn join(told: &Place, timeout: Duration) -> Result<Self> {
        let at = MeetingPoint::of(told)?;
        let gpu = own_gpu(told)?;
        let (links, id) = Links::meet(told, &at, timeout, || Ok(unique_id()?))?;
        let links = Arc::new(Mutex::new(links));
        let watched = Arc::clone(&links);
        let lookout = Box::new(move || lock(&watched).lost().map(gone));
        let communicator = Communicator::join(gpu, &id, (told.rank, told.size), timeout, lookout);
        Ok(Self { communicator: named(communicator, &links)?, links, gpu })
    }

    /// Leaves the others, when all have come to this.
    ///
    /// # Errors
    /// A rank is gone.
    pub fn leave(self) -> Result<()> {
        let Self { communicator, links, .. } = self;
        named(communicator.leave(), &links)?;
        if let Some(links) = Arc::into_inner(links) {
            links.into_inner().unwrap_or_else(PoisonError::into_inner).farewell();
        }
        Ok(())
    }
}

fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone(rank: usize) -> String {
    format!("rank {rank} has left the others")
}

/// The GPU of a process's place on its machine.
fn own_gpu(place: &Place) -> Result<usize> {
    let Some(local_rank) = place.local_rank else {
        let message =
            format!("{place}: expected it to say which of those on its machine this is, found nothing");
        return Err(Error::Launcher { message });
    };
    match Gpu::look(local_rank) {
        // A launcher may show each process its own one alone. If it is not, NCCL says so.
        Err(GpuError::NoGpu { found: 1, .. }) => Ok(0),
        found => Ok(found.map(|_| local_rank)?),
    }
}

/// Adds to a failure which rank has gone, where NCCL does not say so.
fn named<T>(done: Result<T, GpuError>, links: &Mutex<Links>) -> Result<T> {
    let mut error = match done {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    if let GpuError::Nccl { says, .. } = &mut error {
        let failed = Instant::now();
        let lost = loop {
            let lost = lock(links).lost();
            if lost.is_some() || failed.elapsed() > NEWS_TAKE {
                break lost;
            }
            thread::sleep(Duration::from_millis(10));
        };
        if let Some(gone) = lost.map(gone).filter(|gone| !says.contains(gone.as_str())) {
            *says = format!("{says}; {gone}");
        }
    }
    Err(error.into())
}

impl Ranks for NcclRanks {
    fn rank(&self) -> usize {
        self.communicator.rank()
    }

    fn size(&self) -> usize {
        self.communicator.size()
    }

    fn gpu(&self) -> Option<usize> {
        Some(self.gpu)
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        named(self.communicator.gather(bytes), &self.links)
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        named(self.communicator.broadcast(bytes), &self.links)
    }

    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()> {
        check_exact(dtype)?;
        named(self.communicator.sum(values, n), &self.links)
    }

    #[cfg(feature = "cuda")]
    fn sum_tensor(&mut self, tensor: &candle_core::Tensor, n: usize, dtype: ReduceDtype) -> Result<()> {
        check_exact(dtype)?;
        if tensor.device().is_cpu() {
            return ff_model::host::with_slice_mut(tensor, |values| Ok(self.sum(values, n, dtype)))?;
        }
        let held = ff_model::Held::new(tensor)?;
        named(self.communicator.sum_on_device(&held.on_stream()?, n), &self.links)
    }
}

fn check_exact(dtype: ReduceDtype) -> Result<()> {
    if dtype == ReduceDtype::F32 {
        return Ok(());
    }
    let message = format!("expected f32 where GPUs share a run, found {}", dtype.name());
    Err(Error::Config { origin: "train.reduce_dtype".to_owned(), message })
}
