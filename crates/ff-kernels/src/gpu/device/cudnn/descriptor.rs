//! cuDNN's descriptors: opaque objects with typed attributes, finalised before use, destroyed when dropped.

use std::ffi::c_void;

use cudarc::cudnn::result::CudnnError;
use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

use crate::gpu::error::{Error, Result};

/// A value that attributes hold.
///
/// # Safety
/// It is what C has under [`Attribute::TYPE`], and any value that cuDNN may write is one of it.
pub(super) unsafe trait Attribute: Copy {
    const TYPE: Type;
}

/// A note on an engine, by its number: a newer cuDNN may know more than its bindings.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Note<const BEHAVIOUR: bool>(pub(super) u32);

/// Device memory.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Pointer(pub(super) u64);

// SAFETY: the same type in C.
unsafe impl Attribute for i64 {
    const TYPE: Type = Type::CUDNN_TYPE_INT64;
}
// SAFETY: the same type in C.
unsafe impl Attribute for f32 {
    const TYPE: Type = Type::CUDNN_TYPE_FLOAT;
}
// SAFETY: the same type in C; only ever set.
unsafe impl Attribute for bool {
    const TYPE: Type = Type::CUDNN_TYPE_BOOLEAN;
}
// SAFETY: bytes; only ever set.
unsafe impl Attribute for u8 {
    const TYPE: Type = Type::CUDNN_TYPE_CHAR;
}
// SAFETY: pointers are 64 bits wide wherever CUDA is.
unsafe impl Attribute for Pointer {
    const TYPE: Type = Type::CUDNN_TYPE_VOID_PTR;
}
// SAFETY: the same type in C.
unsafe impl Attribute for sys::cudnnHandle_t {
    const TYPE: Type = Type::CUDNN_TYPE_HANDLE;
}
// SAFETY: the same type in C; only ever set.
unsafe impl Attribute for sys::cudnnDataType_t {
    const TYPE: Type = Type::CUDNN_TYPE_DATA_TYPE;
}
// SAFETY: the same type in C; only ever set.
unsafe impl Attribute for sys::cudnnConvolutionMode_t {
    const TYPE: Type = Type::CUDNN_TYPE_CONVOLUTION_MODE;
}
// SAFETY: the same type in C; only ever set.
unsafe impl Attribute for sys::cudnnPointwiseMode_t {
    const TYPE: Type = Type::CUDNN_TYPE_POINTWISE_MODE;
}
// SAFETY: the same type in C; only ever set.
unsafe impl Attribute for sys::cudnnBackendHeurMode_t {
    const TYPE: Type = Type::CUDNN_TYPE_HEUR_MODE;
}
// SAFETY: a C enum is 32 bits wide.
unsafe impl Attribute for Note<false> {
    const TYPE: Type = Type::CUDNN_TYPE_NUMERICAL_NOTE;
}
// SAFETY: a C enum is 32 bits wide.
unsafe impl Attribute for Note<true> {
    const TYPE: Type = Type::CUDNN_TYPE_BEHAVIOR_NOTE;
}

/// A descriptor.
#[repr(transparent)]
pub(super) struct Descriptor(sys::cudnnBackendDescriptor_t);

// SAFETY: an owned object without ties to a thread; a finalised one is only read.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// An empty one.
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut descriptor) };
        check(status, || format!("creating a {kind:?}"))?;
        Ok(Self(descriptor))
    }

    /// Sets an attribute.
    pub(super) fn set<T: Attribute>(self, name: Name, values: &[T]) -> Result<Self> {
        // SAFETY: as many values of the type as are announced; cuDNN copies them.
        unsafe { self.set_raw(name, T::TYPE, values.len(), values.as_ptr().cast())? };
        Ok(self)
    }

    /// Sets an attribute to other descriptors, which must outlive this one.
    pub(super) fn refer(self, name: Name, to: &[&Self]) -> Result<Self> {
        let raw: Vec<_> = to.iter().map(|descriptor| descriptor.0).collect();
        // SAFETY: as many descriptors as are announced, each alive.
        unsafe { self.set_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, raw.len(), raw.as_ptr().cast())? };
        Ok(self)
    }

    /// Checks and completes it.
    pub(super) fn finalize(self, what: &str) -> Result<Self> {
        // SAFETY: a descriptor that was not finalised yet, as this takes it by value.
        let status = unsafe { sys::cudnnBackendFinalize(self.0) };
        check(status, || format!("making {what}"))?;
        Ok(self)
    }

    /// Up to `most` values of an attribute.
    pub(super) fn get<T: Attribute + Default>(&self, name: Name, most: usize) -> Result<Vec<T>> {
        let mut values = vec![T::default(); most];
        // SAFETY: room for as many values of the type as are announced.
        let found = unsafe { self.get_raw(name, T::TYPE, most, values.as_mut_ptr().cast())? };
        values.truncate(found);
        Ok(values)
    }

    /// Fills descriptors from an attribute; those beyond what there is are dropped.
    pub(super) fn get_descriptors(&self, name: Name, mut to: Vec<Self>) -> Result<Vec<Self>> {
        let at = to.as_mut_ptr().cast();
        // SAFETY: a descriptor is a pointer to an object of cuDNN's, which it fills in.
        let found = unsafe { self.get_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, to.len(), at)? };
        to.truncate(found);
        Ok(to)
    }

    /// How many values an attribute has.
    pub(super) fn count(&self, name: Name) -> Result<usize> {
        // SAFETY: nothing is written but the count.
        unsafe { self.get_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, std::ptr::null_mut()) }
    }

    /// For calls that take it.
    pub(super) fn raw(&self) -> sys::cudnnBackendDescriptor_t {
        self.0
    }

    /// # Safety
    /// `values` points to `len` values of the type.
    unsafe fn set_raw(&self, name: Name, kind: Type, len: usize, values: *const c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, kind, len as i64, values) };
        check(status, || format!("setting {name:?}"))
    }

    /// # Safety
    /// `values` points to room for `len` values of the type.
    unsafe fn get_raw(&self, name: Name, kind: Type, len: usize, values: *mut c_void) -> Result<usize> {
        let mut found = 0;
        // SAFETY: the caller's promise.
        let status =
            unsafe { sys::cudnnBackendGetAttribute(self.0, name, kind, len as i64, &raw mut found, values) };
        check(status, || format!("reading {name:?}"))?;
        Ok(found.max(0) as usize)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created by `new` and destroyed once. A failure would change nothing.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

impl<const BEHAVIOUR: bool> Default for Note<BEHAVIOUR> {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

/// Turns a status into an [`Error`] with what cuDNN says about its last failure.
pub(super) fn check(status: sys::cudnnStatus_t, doing: impl FnOnce() -> String) -> Result<()> {
    status.result().map_err(|CudnnError(status)| {
        let mut message = [0u8; 512];
        // SAFETY: at most as many bytes as there are, with a zero at the end.
        unsafe { sys::cudnnGetLastErrorString(message.as_mut_ptr().cast(), message.len()) };
        let message = message.split(|&byte| byte == 0).next().unwrap_or_default();
        Error::Cudnn {
            doing: doing(),
            says: format!("{status:?}: {}", String::from_utf8_lossy(message).trim()),
        }
    })
}
