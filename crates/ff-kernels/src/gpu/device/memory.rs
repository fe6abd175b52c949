//! Bytes on the device, and page-locked bytes on the host, which the device can copy while the processor works.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::driver::{During, Gpu};
use super::span::Span;
use crate::gpu::error::{Error, Result};

/// Bytes on the device, aligned for whatever is kept in them.
pub(super) struct DeviceBytes {
    gpu: Arc<Gpu>,
    address: u64,
    len: usize,
}

impl DeviceBytes {
    /// `len` bytes of zeros, at least one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn new(gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        let bytes = Self::uninitialised(gpu, len)?;
        // SAFETY: the allocation has this many bytes.
        unsafe { result::memset_d8_async(bytes.address, 0, bytes.len, gpu.stream().cu_stream()) }
            .during(|| format!("clearing {len} bytes of GPU memory"))?;
        Ok(bytes)
    }

    /// As [`Self::new`], with whatever the bytes hold.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn uninitialised(gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        gpu.bind()?;
        let len = len.max(1);
        // SAFETY: written to before it is read: by `new`, or by the kernel that is given it as workspace.
        match unsafe { result::malloc_sync(len) } {
            Ok(address) => Ok(Self { gpu: Arc::clone(gpu), address, len }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, total) = gpu.memory()?;
                Err(Error::OutOfMemory { asked: len, free, total, batch: None })
            }
            Err(error) => Err(error).during(|| format!("allocating {len} bytes of GPU memory")),
        }
    }

    /// Where they begin.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All of them.
    pub(super) fn span(&self) -> Span<'_> {
        // SAFETY: `drop` waits for the stream.
        unsafe { Span::from_raw(self.address, self.len) }
    }
}

impl Drop for DeviceBytes {
    fn drop(&mut self) {
        let context = self.gpu.stream().context();
        let ended = self.gpu.stream().synchronize();
        if ended.is_ok() {
            // SAFETY: allocated by `malloc_sync` and freed once; the stream that used it has just come to its end.
            context.record_err(unsafe { result::free_sync(self.address) });
        }
        // Where it did not, nobody knows who still works on the bytes: they are left alone.
        context.record_err(ended);
    }
}

/// Page-locked bytes on the host.
pub struct Pinned {
    gpu: Arc<Gpu>,
    at: *mut u8,
    len: usize,
}

// SAFETY: it owns its bytes, as a boxed slice does.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `len` bytes of zeros.
    ///
    /// # Errors
    /// The system has no such memory to lock.
    pub fn new(gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        gpu.bind()?;
        // SAFETY: at least one byte is asked for, and all are written before they can be read.
        let at = unsafe { result::malloc_host(len.max(1), sys::CU_MEMHOSTALLOC_PORTABLE) }
            .during(|| format!("page-locking {len} bytes of host memory"))?
            .cast::<u8>();
        // SAFETY: the allocation has at least `len` bytes.
        unsafe { at.write_bytes(0, len) };
        Ok(Self { gpu: Arc::clone(gpu), at, len })
    }
}

impl Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: allocated and zeroed in `new`, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let context = self.gpu.stream().context();
        context.record_err(context.bind_to_thread());
        // SAFETY: allocated by `malloc_host` and freed once; who copies from it asynchronously keeps it until then.
        context.record_err(unsafe { result::free_host(self.at.cast()) });
    }
}
