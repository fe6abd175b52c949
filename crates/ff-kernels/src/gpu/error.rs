//! What can go wrong on a GPU, in words that say what to do about it.
//!
//! Made by `gpu::device`; it lies here so that its messages are tested where there is no CUDA.

use std::fmt;

/// A version as (major, minor).
pub type Version = (u32, u32);

/// Result with a GPU's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The machine has no such GPU.
    NoGpu {
        /// The number asked for, from 0 on.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// The driver's library is the toolkit's, which is there to link against.
    Stub,
    /// The driver is older than the CUDA version that this program was built with.
    DriverTooOld {
        /// The CUDA version that the driver supports.
        supports: Version,
        /// The driver's own version, where it could be found out.
        driver: Option<String>,
        /// The CUDA version of the build.
        needed: Version,
    },
    /// The GPU is older than what the kernels are compiled for.
    GpuTooOld {
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: Version,
    },
    /// No room in the GPU's memory.
    OutOfMemory {
        /// Bytes asked for.
        asked: usize,
        /// Bytes free at that moment.
        free: usize,
        /// Bytes of the GPU.
        total: usize,
        /// The batch that they were asked for.
        batch: Option<Fit>,
    },
    /// A call of the driver failed.
    Driver {
        /// What was being done.
        doing: String,
        /// What the driver says.
        says: String,
    },
    /// A call of cuDNN failed.
    Cudnn {
        /// What was being done.
        doing: String,
        /// What cuDNN says.
        says: String,
    },
    /// A rank of a job on several GPUs cannot go on.
    Nccl {
        /// Which.
        rank: usize,
        /// What was being done.
        doing: &'static str,
        /// What NCCL says, or whoever else knows why.
        says: String,
    },
    /// No kernel of this name was compiled.
    NoKernel(
        /// The name.
        String,
    ),
    /// Every slot of a ring holds a batch that is still needed.
    NoSlot {
        /// Slots of the ring.
        depth: usize,
    },
    /// Memory of a stream other than the one that is to work on it.
    OtherStream,
    /// Bytes that do not fit where they are to go.
    Length {
        /// What they are.
        what: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

/// A batch that had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Its images.
    pub batch: usize,
    /// The largest power of two that has room, if any.
    pub fits: Option<usize>,
}

/// Parts of a GPU's memory, of 8, that activations may take: convolutions and the rest of the process need some too.
const SHARE: usize = 7;

/// The largest power of two below `batch` whose `bytes` fit into `free` bytes with some to spare.
pub fn largest_batch(batch: usize, free: usize, bytes: impl Fn(usize) -> usize) -> Option<usize> {
    let powers = (0..usize::BITS).map(|i| 1 << i).take_while(|&power| power < batch);
    powers.take_while(|&power| bytes(power) <= free / 8 * SHARE).last()
}

impl Error {
    /// Adds to [`Error::OutOfMemory`] which batch it was, and by `bytes` of a batch which would fit.
    #[must_use]
    pub fn for_batch(self, batch: usize, bytes: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::OutOfMemory { asked, free, total, .. } => {
                let fits = largest_batch(batch, free, bytes);
                Self::OutOfMemory { asked, free, total, batch: Some(Fit { batch, fits }) }
            }
            other => other,
        }
    }
}

/// The driver branch that first supported a major version of CUDA.
const fn branch(needed: Version) -> u32 {
    match needed.0 {
        ..=11 => 450,
        12 => 525,
        _ => 580,
    }
}

/// Bytes as GiB.
struct Gib(usize);

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} GiB", self.0 as f64 / f64::from(1 << 30))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGpu { asked, found: 0 } => write!(
                f,
                "no GPU number {asked}: the driver finds none; `nvidia-smi` lists what is there, \
                 and CUDA_VISIBLE_DEVICES may hide some"
            ),
            Self::NoGpu { asked, found } => {
                write!(f, "no GPU number {asked}: expected one below {found}, as many as the driver finds")
            }
            Self::Stub => f.write_str(
                "libcuda is the CUDA toolkit's stub, which does nothing: take its `stubs` folder out of \
                 LD_LIBRARY_PATH, and install the NVIDIA driver if there is none",
            ),
            Self::DriverTooOld { supports, driver, needed } => {
                let own = driver.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
                write!(
                    f,
                    "the NVIDIA driver{own} is too old: it supports CUDA {}.{}, this program needs CUDA {}.{}, \
                     that is driver {} or later",
                    supports.0,
                    supports.1,
                    needed.0,
                    needed.1,
                    branch(*needed)
                )
            }
            Self::GpuTooOld { name, capability: (major, minor) } => write!(
                f,
                "{name} has compute capability {major}.{minor}, the kernels need 8.0 or later \
                 (A100, RTX 30 and newer); use engine reference or device cpu"
            ),
            Self::OutOfMemory { asked, free, total, batch } => {
                write!(
                    f,
                    "out of GPU memory: asked for {}, free are {} of {}",
                    Gib(*asked),
                    Gib(*free),
                    Gib(*total)
                )?;
                match batch {
                    Some(Fit { batch, fits: Some(fits) }) => {
                        write!(f, "; a batch of {batch} images does not fit, one of {fits} would")
                    }
                    Some(Fit { batch, fits: None }) => {
                        write!(
                            f,
                            "; no batch fits, not even a smaller one than {batch}: something else holds the memory"
                        )
                    }
                    None => Ok(()),
                }
            }
            Self::Driver { doing, says } => write!(f, "{doing}: the NVIDIA driver says {says}"),
            Self::Cudnn { doing, says } => write!(f, "{doing}: cuDNN says {says}"),
            Self::Nccl { rank, doing, says } => write!(f, "rank {rank}, {doing}: {says}"),
            Self::NoKernel(name) => write!(f, "no GPU kernel named `{name}` in this build"),
            Self::NoSlot { depth } => {
                write!(f, "all {depth} upload slots hold batches that were not ended yet")
            }
            Self::OtherStream => f.write_str(
                "memory of another stream: expected that of the model's device, which orders its uses",
            ),
            Self::Length { what, expected, found } => {
                write!(f, "{what}: expected {expected} bytes, found {found}")
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_told_apart_from_what_is_needed() {
        let error =
            Error::DriverTooOld { supports: (12, 4), driver: Some("550.54.15".into()), needed: (13, 0) };
        assert_eq!(
            error.to_string(),
            "the NVIDIA driver 550.54.15 is too old: it supports CUDA 12.4, this program needs CUDA 13.0, \
             that is driver 580 or later"
        );
    }

    #[test]
    fn a_missing_gpu_is_told_apart_from_no_gpu() {
        let message = |asked, found| Error::NoGpu { asked, found }.to_string();
        assert!(message(0, 0).contains("the driver finds none"));
        assert_eq!(message(2, 2), "no GPU number 2: expected one below 2, as many as the driver finds");
    }

    #[test]
    fn out_of_memory_says_which_batch_would_fit() {
        let gib = 1 << 30;
        let error = Error::OutOfMemory { asked: 24 * gib, free: 10 * gib, total: 16 * gib, batch: None };
        assert_eq!(
            error.clone().for_batch(256, |batch| batch * (gib / 10)).to_string(),
            "out of GPU memory: asked for 24.00 GiB, free are 10.00 GiB of 16.00 GiB; \
             a batch of 256 images does not fit, one of 64 would"
        );
        assert!(error.for_batch(256, |_| 11 * gib).to_string().contains("no batch fits"));
        assert_eq!(largest_batch(64, usize::MAX, |batch| batch), Some(32));
        assert_eq!(largest_batch(1, usize::MAX, |batch| batch), None);
    }
}
