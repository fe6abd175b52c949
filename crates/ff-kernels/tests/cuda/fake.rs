//! The device that tests run on, one test at a time, and the stand-in's settings where it is one.

use std::ffi::{CString, c_char, c_long};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaContext;
use ff_kernels::cuda::Gpu;
use libloading::Library;

static ALONE: Mutex<()> = Mutex::new(());

/// The device, for one test.
pub struct Device {
    library: Library,
    changed: Vec<(&'static str, i64)>,
    _alone: MutexGuard<'static, ()>,
}

/// Waits for the device.
pub fn alone() -> Device {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: loaded already, as this program links to it.
    let library = unsafe { Library::new("libcuda.so.1") }.unwrap();
    Device { library, changed: Vec::new(), _alone: alone }
}

impl Device {
    /// The GPU with a stream of its own.
    pub fn gpu(&self) -> Arc<Gpu> {
        Gpu::new(CudaContext::new(0).unwrap().new_stream().unwrap()).unwrap()
    }

    /// Whether it is the stand-in; says that the test is skipped if not.
    pub fn is_fake(&self) -> bool {
        // SAFETY: only looked up.
        let found = unsafe { self.library.get::<unsafe extern "C" fn()>(b"fake_set") }.is_ok();
        if !found {
            eprintln!("skipped: needs the stand-in for libcuda, see .ci/cuda-on-cpu");
        }
        found
    }

    /// Changes a setting of the stand-in until the test ends; `default` is what it is then.
    pub fn set(&mut self, name: &'static str, value: i64, default: i64) {
        self.changed.push((name, default));
        self.give(name, value);
    }

    /// Launches of graphs so far.
    pub fn graphs_launched(&self) -> i64 {
        // SAFETY: the stand-in's own function of that type.
        unsafe { self.library.get::<unsafe extern "C" fn() -> c_long>(b"fake_graphs_launched").unwrap()() }
    }

    /// Forgets an error that the stand-in keeps, as a device whose context is lost does.
    pub fn forgive(&self) {
        // SAFETY: the stand-in's own function of that type.
        unsafe { self.library.get::<unsafe extern "C" fn()>(b"fake_forgive").unwrap()() }
    }

    fn give(&self, name: &str, value: i64) {
        let name = CString::new(name).unwrap();
        // SAFETY: the stand-in's own function of that type.
        unsafe {
            self.library.get::<unsafe extern "C" fn(*const c_char, c_long)>(b"fake_set").unwrap()(
                name.as_ptr(),
                value,
            );
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for (name, default) in &self.changed {
            self.give(name, *default);
        }
    }
}
