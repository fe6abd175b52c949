//! A GPU as a workbench for the twins' checks: one allocation a buffer, commands one after the other.

use std::sync::Arc;

use cudarc::driver::result;

use super::cudnn::{Convolution, Cudnn};
use super::driver::{During, Gpu};
use super::memory::DeviceBytes;
use super::{Error, Result};
use crate::gpu::twins::Workbench;
use crate::gpu::{Bases, Buffer, Convolve, Launch, Machine, Place};

/// Device memory that the host can write and read, and commands on it: by the kernels and the convolutions that an
/// [`Engine`](super::Engine) runs, f32 ones exact.
pub struct Bench {
    gpu: Arc<Gpu>,
    memory: [Option<DeviceBytes>; Buffer::COUNT],
}

impl Bench {
    /// One without memory.
    pub fn new(gpu: &Arc<Gpu>) -> Self {
        Self { gpu: Arc::clone(gpu), memory: Default::default() }
    }

    /// Where the buffers are that were reserved.
    pub fn bases(&self) -> Bases {
        let reserved = Buffer::ALL.into_iter().zip(&self.memory);
        reserved.fold(Bases::default(), |bases, (buffer, memory)| match memory {
            Some(memory) => bases.with(buffer, memory.address()),
            None => bases,
        })
    }

    /// The address of `len` bytes.
    fn address(&self, place: Place, len: usize) -> Result<u64> {
        let found = self.memory[place.buffer as usize].as_ref().map_or(0, DeviceBytes::len);
        let expected = place.offset + len;
        if expected > found {
            return Err(Error::Length { what: "a buffer of the workbench", expected, found });
        }
        Ok(self.bases().address(place))
    }
}

impl Machine for Bench {
    type Error = Error;

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.gpu.launch(launch, &self.bases())
    }

    fn convolve(&mut self, convolve: &Convolve) -> Result<()> {
        let bases = self.bases();
        let algorithm = Cudnn::fastest(&self.gpu, convolve, &bases, false)?;
        // Dropped only when the stream has passed.
        let workspace = DeviceBytes::uninitialised(&self.gpu, algorithm.workspace())?;
        Convolution::new(algorithm, convolve, &bases, workspace.address())?.run(&self.gpu, &bases)
    }
}

impl Workbench for Bench {
    fn reserve(&mut self, buffer: Buffer, len: usize) -> Result<()> {
        // The old one goes first: both may not fit.
        self.memory[buffer as usize] = None;
        self.memory[buffer as usize] = Some(DeviceBytes::new(&self.gpu, len)?);
        if buffer == Buffer::Arena {
            // Values that a kernel has no business to read are NaN, not 0.
            self.write(Place { buffer, offset: 0 }, &vec![0xff; len])?;
        }
        Ok(())
    }

    fn write(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        let to = self.address(place, bytes.len())?;
        self.gpu.bind()?;
        // SAFETY: the buffer has these bytes, and those on the host stay until the stream has passed.
        unsafe { result::memcpy_htod_async(to, bytes, self.gpu.stream().cu_stream()) }
            .during(|| format!("writing {} bytes", bytes.len()))?;
        self.gpu.synchronize()
    }

    fn read(&mut self, place: Place, len: usize) -> Result<Vec<u8>> {
        let from = self.address(place, len)?;
        let mut bytes = vec![0; len];
        self.gpu.bind()?;
        // SAFETY: the buffer has these bytes, and those on the host stay until the stream has passed.
        unsafe { result::memcpy_dtoh_async(&mut bytes, from, self.gpu.stream().cu_stream()) }
            .during(|| format!("reading {len} bytes"))?;
        self.gpu.synchronize()?;
        Ok(bytes)
    }
}
