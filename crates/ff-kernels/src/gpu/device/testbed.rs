//! A GPU for the checks of [`check`](crate::gpu::check): buffers of its own, every convolution looked for when it runs.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::result;

use super::cudnn::{self, Convolution};
use super::driver::{During, Gpu};
use super::memory::DeviceBytes;
use super::span::Memory;
use crate::gpu::check::{self, Verdict, Workbench};
use crate::gpu::error::{Error, Result};
use crate::gpu::{Bases, Buffer, BufferPlace, Convolve, Launch, Machine};

/// A GPU and the memory that a check laid out on it.
pub struct Testbed {
    buffers: HashMap<Buffer, DeviceBytes>,
    bases: Bases,
    gpu: Arc<Gpu>,
}

impl Testbed {
    /// One without memory.
    ///
    /// # Safety
    /// Every command that it is given keeps to memory that was reserved before: those of
    /// [`check`](crate::gpu::check) do.
    pub unsafe fn new(gpu: &Arc<Gpu>) -> Self {
        Self { buffers: HashMap::new(), bases: Bases::default(), gpu: Arc::clone(gpu) }
    }

    /// Where its buffers are.
    pub fn bases(&self) -> Bases {
        self.bases
    }

    /// Its buffers, for an engine.
    pub fn memory(&self) -> Memory<'_> {
        self.buffers
            .iter()
            .fold(Memory::default(), |memory, (&buffer, bytes)| memory.with(buffer, bytes.span()))
    }

    /// The address of `len` bytes that lie within their buffer.
    fn address(&self, place: BufferPlace, len: usize) -> Result<u64> {
        let room = self.buffers.get(&place.buffer).map_or(0, DeviceBytes::len);
        match place.offset.checked_add(len).is_some_and(|end| end <= room) {
            true => Ok(self.bases.address(place)),
            false => Err(Error::Length {
                what: "a buffer of a check",
                expected: place.offset.saturating_add(len),
                found: room,
            }),
        }
    }
}

/// Runs every kernel beside its twin.
///
/// # Errors
/// The driver refuses a command; a wrong result is a verdict.
pub fn check_kernels(gpu: &Arc<Gpu>) -> Result<Vec<Verdict>> {
    // SAFETY: the twins reserve what their commands work on.
    check::run(&mut unsafe { Testbed::new(gpu) })
}

impl Machine for Testbed {
    type Error = Error;

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        // SAFETY: the promise to `new`.
        unsafe { self.gpu.launch(launch, &self.bases) }
    }

    fn convolve(&mut self, convolve: &Convolve) -> Result<()> {
        let algorithm = cudnn::fastest(&self.gpu, convolve, &self.bases, false)?;
        let workspace = DeviceBytes::uninitialised(&self.gpu, algorithm.workspace())?;
        let convolution = Convolution::new(algorithm, convolve, &self.bases, workspace.address())?;
        // SAFETY: the promise to `new`; the workspace is freed when the stream has passed.
        unsafe { convolution.run(&self.gpu, &self.bases) }
    }
}

impl Workbench for Testbed {
    fn reserve(&mut self, buffer: Buffer, len: usize) -> Result<()> {
        // What it held before goes first.
        self.buffers.remove(&buffer);
        let bytes = DeviceBytes::new(&self.gpu, len)?;
        self.bases = self.bases.with(buffer, bytes.address());
        self.buffers.insert(buffer, bytes);
        if buffer == Buffer::Arena {
            // Values that a kernel has no business to read are NaN, not 0.
            self.write(BufferPlace { buffer, offset: 0 }, &vec![0xff; len])?;
        }
        Ok(())
    }

    fn write(&mut self, place: BufferPlace, bytes: &[u8]) -> Result<()> {
        let to = self.address(place, bytes.len())?;
        self.gpu.bind()?;
        // SAFETY: within the buffer, as was just checked; the stream is waited for below.
        unsafe { result::memcpy_htod_async(to, bytes, self.gpu.stream().cu_stream()) }
            .during(|| format!("writing {} bytes of a check", bytes.len()))?;
        self.gpu.synchronize()
    }

    fn read(&mut self, place: BufferPlace, len: usize) -> Result<Vec<u8>> {
        let from = self.address(place, len)?;
        let mut bytes = vec![0; len];
        self.gpu.bind()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(&mut bytes, from, self.gpu.stream().cu_stream()) }
            .during(|| format!("reading {len} bytes of a check"))?;
        self.gpu.synchronize()?;
        Ok(bytes)
    }
}
