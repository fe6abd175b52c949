//! cuDNN's handle on a stream, and what was found to be fastest with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cudnn::sys;
use cudarc::driver::CudaStream;

use super::algorithm::Algorithm;
use super::descriptor::{Descriptor, check};
use super::graph::Graph;
use super::plan::{self, Demands, Plan, Target};
use crate::gpu::error::Result;
use crate::gpu::{Element, Geometry, Operation};

/// What an algorithm is for.
pub(super) type Key = (Geometry, Operation, Element, bool);

/// cuDNN on a stream.
pub(in crate::gpu::device) struct Cudnn {
    /// Before the handle that they were made with.
    found: Mutex<HashMap<Key, Arc<Algorithm>>>,
    handle: Mutex<Handle>,
}

struct Handle(sys::cudnnHandle_t);

// SAFETY: any thread may use a handle, one at a time, which the mutex sees to.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created by `Cudnn::new` and destroyed once. A failure would change nothing.
        let _ = unsafe { sys::cudnnDestroy(self.0) };
    }
}

impl Cudnn {
    /// A handle on the device that is current, for work on `stream`.
    ///
    /// # Errors
    /// cuDNN refuses.
    pub(in crate::gpu::device) fn new(stream: &CudaStream) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        // Its parts are libraries of their own, which it looks for only now.
        check(unsafe { sys::cudnnCreate(&raw mut handle) }, || {
            let paths = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
            format!("starting cuDNN, whose libcudnn_*.so.9 are looked for in LD_LIBRARY_PATH={paths}")
        })?;
        let handle = Handle(handle);
        // SAFETY: both are alive; the stream of a driver and that of the runtime are the same object.
        let status = unsafe { sys::cudnnSetStream(handle.0, stream.cu_stream().cast()) };
        check(status, || "giving cuDNN its stream".to_owned())?;
        Ok(Self { found: Mutex::default(), handle: Mutex::new(handle) })
    }

    /// What was found before.
    pub(super) fn found(&self, key: &Key) -> Option<Arc<Algorithm>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(Arc::clone)
    }

    /// Remembers what was found.
    pub(super) fn remember(&self, key: Key, algorithm: &Arc<Algorithm>) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(algorithm));
    }

    pub(super) fn plans(
        &self,
        geometry: &Geometry,
        operation: Operation,
        demands: Demands,
    ) -> Result<(Graph, Vec<Plan>)> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        plan::plans(Target::Handle(handle.0), geometry, operation, demands)
    }

    /// Puts a plan on the stream.
    ///
    /// # Safety
    /// The pack's addresses hold the plan's tensors and its workspace until the stream has passed.
    pub(super) unsafe fn execute(&self, plan: &Plan, pack: &Descriptor) -> Result<()> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: all three are finalised and of this device; the addresses are the caller's promise.
        let status = unsafe { sys::cudnnBackendExecute(handle.0, plan.descriptor().raw(), pack.raw()) };
        check(status, || format!("running engine {}", plan.engine))
    }
}
