//! Device memory that commands may work on: what makes the calls of this module safe.
//!
//! A [`Span`] is a run of bytes that stays allocated until the compute stream has done what was put on it while the
//! span lived: a slice's memory is freed on its own stream, which must be that one. A [`Memory`] gives one to each
//! buffer that commands name, and whoever runs commands checks that it is long enough for them.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::driver::Gpu;
use crate::gpu::error::{Error, Result};
use crate::gpu::{Bases, Buffer};

/// Bytes on the device.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    address: u64,
    len: usize,
    life: PhantomData<&'a [u8]>,
}

impl<'a> Span<'a> {
    /// The memory of a slice.
    ///
    /// # Errors
    /// [`Error::OtherStream`]: the slice's memory may be gone before `gpu`'s stream comes to work on it.
    pub fn new<T>(gpu: &Gpu, slice: &'a CudaSlice<T>) -> Result<Self> {
        let stream = gpu.stream();
        if slice.stream() != stream {
            return Err(Error::OtherStream);
        }
        // The guard orders streams where there are several, here there is one.
        let (address, _guard) = slice.device_ptr(stream);
        Ok(Self { address, len: slice.num_bytes(), life: PhantomData })
    }

    /// # Safety
    /// The bytes stay allocated for `'a`, and then until the compute stream has done what was put on it before.
    pub(super) unsafe fn from_raw(address: u64, len: usize) -> Self {
        Self { address, len, life: PhantomData }
    }

    /// Bytes of it.
    ///
    /// # Panics
    /// It has not that many.
    #[must_use]
    pub fn part(self, bytes: Range<usize>) -> Self {
        let Range { start, end } = bytes;
        assert!(start <= end && end <= self.len, "bytes {start}..{end} of {} on the GPU", self.len);
        Self { address: self.address + start as u64, len: end - start, life: PhantomData }
    }

    /// How many bytes they are.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(super) fn address(self) -> u64 {
        self.address
    }

    /// # Errors
    /// [`Error::Length`]: fewer bytes than `expected`.
    pub(super) fn at_least(self, what: &'static str, expected: usize) -> Result<Self> {
        match self.len >= expected {
            true => Ok(self),
            false => Err(Error::Length { what, expected, found: self.len }),
        }
    }
}

/// Bytes on the device with the stream that works on them, for whoever works on another one.
#[derive(Clone, Debug)]
pub struct OnStream<'a> {
    pub(super) span: Span<'a>,
    stream: Arc<CudaStream>,
}

impl<'a> OnStream<'a> {
    /// The memory of a slice.
    pub fn new<T>(slice: &'a CudaSlice<T>) -> Self {
        let stream = slice.stream();
        let (address, _guard) = slice.device_ptr(stream);
        let span = Span { address, len: slice.num_bytes(), life: PhantomData };
        Self { span, stream: Arc::clone(stream) }
    }

    /// Bytes of it.
    ///
    /// # Panics
    /// It has not that many.
    #[must_use]
    pub fn part(self, bytes: Range<usize>) -> Self {
        Self { span: self.span.part(bytes), ..self }
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

/// The memory behind buffers that commands name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory<'a>([Option<Span<'a>>; Buffer::COUNT]);

impl<'a> Memory<'a> {
    /// The same with the memory of one more buffer.
    #[must_use]
    pub fn with(mut self, buffer: Buffer, span: Span<'a>) -> Self {
        self.0[buffer as usize] = Some(span);
        self
    }

    /// The memory of a buffer.
    pub fn span(&self, buffer: Buffer) -> Option<Span<'a>> {
        self.0[buffer as usize]
    }

    /// Where the buffers begin.
    pub(super) fn bases(&self) -> Bases {
        let with = |bases: Bases, buffer: Buffer| match self.span(buffer) {
            Some(span) => bases.with(buffer, span.address()),
            None => bases,
        };
        Buffer::ALL.into_iter().fold(Bases::default(), with)
    }

    /// # Errors
    /// [`Error::Length`]: a buffer has fewer bytes than `expected`, or no memory.
    pub(super) fn check(&self, buffer: Buffer, expected: usize) -> Result<()> {
        let found = self.span(buffer).map_or(0, Span::len);
        match self.span(buffer).is_some() && found >= expected {
            true => Ok(()),
            false => Err(Error::Length { what: buffer.name(), expected, found }),
        }
    }
}
