//! The device that tests run on, one test at a time, and the stand-in's settings where it is one.

use std::ffi::{CString, c_char, c_long};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaContext;
use ff_kernels::gpu::device::Gpu;
use libloading::Library;

static ALONE: Mutex<()> = Mutex::new(());

/// The device, for one test.
pub struct Device {
    library: Library,
    changed: Vec<(&'static str, i64)>,
    /// Things of the driver that an earlier test left behind.
    left: i64,
    /// Whether this test leaves some too.
    leaks: bool,
    _alone: MutexGuard<'static, ()>,
}

/// Waits for the device.
pub fn alone() -> Device {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: loaded already, as this program links to it.
    let library = unsafe { Library::new("libcuda.so.1") }.unwrap();
    let mut device = Device { library, changed: Vec::new(), left: 0, leaks: false, _alone: alone };
    device.left = if device.is_fake() { device.count(b"fake_live") } else { 0 };
    device
}

/// Does something in a thread that has never met the device.
pub fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// As [`alone`], for tests that need the stand-in; `None` on a GPU.
pub fn alone_on_fake() -> Option<Device> {
    let device = alone();
    if !device.is_fake() {
        eprintln!("skipped: needs the stand-in for libcuda, see .ci/cuda-on-cpu");
        return None;
    }
    Some(device)
}

impl Device {
    /// The GPU with a stream of its own.
    pub fn gpu(&self) -> Arc<Gpu> {
        Gpu::new(CudaContext::new(0).unwrap().new_stream().unwrap()).unwrap()
    }

    /// Whether it is the stand-in.
    pub fn is_fake(&self) -> bool {
        // SAFETY: only looked up.
        unsafe { self.library.get::<unsafe extern "C" fn()>(b"fake_set") }.is_ok()
    }

    /// Changes a setting of the stand-in until the test ends; `default` is what it is then.
    pub fn set(&mut self, name: &'static str, value: i64, default: i64) {
        self.changed.push((name, default));
        self.give(name, value);
    }

    /// Launches of graphs so far, which only the stand-in counts.
    pub fn graphs_launched(&self) -> Option<i64> {
        self.is_fake().then(|| self.count(b"fake_graphs_launched"))
    }

    /// Work that streams have been given and have not done yet.
    pub fn queued(&self) -> i64 {
        self.count(b"fake_queued")
    }

    /// What was left alone on purpose is no leak of this test.
    pub fn expect_left_behind(&mut self) {
        self.leaks = true;
    }

    /// Forgets what the test did wrong on purpose.
    pub fn forgive(&self) {
        // SAFETY: the stand-in's own function of that type.
        unsafe { self.library.get::<unsafe extern "C" fn()>(b"fake_forgive").unwrap()() }
    }

    fn count(&self, name: &[u8]) -> i64 {
        // SAFETY: the stand-in's own functions are of that type.
        unsafe { self.library.get::<unsafe extern "C" fn() -> c_long>(name).unwrap()() }
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

/// Nothing is left of a test, and it did nothing wrong but what it was forgiven.
impl Drop for Device {
    fn drop(&mut self) {
        for (name, default) in &self.changed {
            self.give(name, *default);
        }
        if !self.is_fake() {
            return;
        }
        let (complaints, live) = (self.count(b"fake_complaints"), self.count(b"fake_live"));
        self.forgive();
        if !std::thread::panicking() {
            assert_eq!(complaints, 0, "the stand-ins complained, see stderr");
            if self.leaks {
                assert!(live > self.left, "nothing was left behind");
                return;
            }
            assert_eq!(live, self.left, "things of the driver that were not given back");
        }
    }
}
