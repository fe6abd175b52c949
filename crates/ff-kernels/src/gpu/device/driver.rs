//! A GPU: its compute stream, the kernels loaded on it, and cuDNN's handle.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaStream, sys};

use super::cudnn::handle::Cudnn;
use crate::gpu::error::{Error, Result, Version};
use crate::gpu::{BLOCK, Bases, Launch};

/// All kernels, for every architecture that build.rs names; the driver takes what fits the device.
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));
/// The CUDA version of the build, `13.0`.
const BUILT_WITH: &str = env!("FF_CUDA_VERSION");
/// The least compute capability that [`KERNELS`] run on.
const LEAST_CAPABILITY: Version = (8, 0);

/// Turns a failure of the driver into an [`Error`] that says what was being done.
pub(super) trait During<T> {
    fn during(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> During<T> for Result<T, DriverError> {
    fn during(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let text = |found: Result<&std::ffi::CStr, DriverError>| {
                found.map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
            };
            let says = format!("{} ({})", text(error.error_string()), text(error.error_name()));
            Error::Driver { doing: doing(), says }
        })
    }
}

/// What there is, seen before anything is allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The GPU's name.
    pub name: String,
    /// The CUDA version that its driver supports.
    pub driver: Version,
    /// Its compute capability.
    pub capability: Version,
    /// Bytes of its memory.
    pub memory: usize,
    /// Its streaming multiprocessors.
    pub multiprocessors: usize,
    /// Their highest clock, in MHz.
    pub clock_mhz: usize,
}

/// A GPU with our kernels and cuDNN on it.
pub struct Gpu {
    /// Before the context goes with the stream.
    cudnn: Cudnn,
    module: Module,
    functions: Mutex<HashMap<String, Function>>,
    stream: Arc<CudaStream>,
}

impl Gpu {
    /// Loads the kernels and cuDNN for the device of `stream`, which all work is put on.
    ///
    /// The context stays as its owner made it, cudarc's tracking of uses by events included.
    ///
    /// # Errors
    /// The driver or cuDNN refuses; the kernels are not for this device.
    pub fn new(stream: Arc<CudaStream>) -> Result<Arc<Self>> {
        let context = stream.context();
        context.bind_to_thread().during(|| "choosing the GPU".to_owned())?;
        let module = Module::load(KERNELS)?;
        let cudnn = Cudnn::new(&stream)?;
        Ok(Arc::new(Self { cudnn, module, functions: Mutex::default(), stream }))
    }

    /// Looks at a GPU, and whether its driver and itself are new enough, without allocating anything on it.
    ///
    /// # Errors
    /// [`Error::NoGpu`], [`Error::DriverTooOld`], [`Error::GpuTooOld`], or what else the driver says.
    pub fn look(ordinal: usize) -> Result<Found> {
        let driver = driver_version()?;
        let needed = version(BUILT_WITH);
        // Within a major version a newer toolkit's machine code runs on an older driver.
        if driver.0 < needed.0 {
            return Err(Error::DriverTooOld { supports: driver, driver: own_version(), needed });
        }
        let found = match result::init() {
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            started => {
                started.during(|| "starting CUDA".to_owned())?;
                result::device::get_count().during(|| "counting GPUs".to_owned())? as usize
            }
        };
        if ordinal >= found {
            return Err(Error::NoGpu { asked: ordinal, found });
        }
        let doing = || format!("looking at GPU cuda:{ordinal}");
        let device = result::device::get(ordinal as i32).during(doing)?;
        let name = result::device::get_name(device).during(doing)?;
        use sys::CUdevice_attribute_enum as Attribute;
        let attribute = |which: Attribute| {
            // SAFETY: the device was just returned by the driver.
            unsafe { result::device::get_attribute(device, which) }.during(doing)
        };
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
        );
        if capability < LEAST_CAPABILITY {
            return Err(Error::GpuTooOld { name, capability });
        }
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(device) }.during(doing)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
        let clock_mhz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? as usize / 1000;
        Ok(Found { name, driver, capability, memory, multiprocessors, clock_mhz })
    }

    /// Puts a kernel on the stream.
    ///
    /// # Errors
    /// [`Error::NoKernel`]; the driver refuses the launch, or reports an earlier failure.
    ///
    /// # Panics
    /// A place's buffer has no address in `bases`.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in number and kind. Its grid and sizes keep it within the memory behind
    /// `bases`, which stays allocated until the stream has passed.
    pub unsafe fn launch(&self, launch: &Launch, bases: &Bases) -> Result<()> {
        let doing = || format!("launching {}", launch.kernel);
        self.bind()?;
        let function = self.function(&launch.kernel)?;
        let mut values = launch.values(bases);
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the module of the function is loaded as long as `self`; the driver copies the arguments before it
        // returns, and each points to a value as wide as its parameter, and addresses hold what the kernel touches: the
        // caller's promise.
        unsafe {
            result::launch_kernel(
                function.0,
                (x, y, z),
                (BLOCK, 1, 1),
                0,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .during(doing)
    }

    /// Bytes of the GPU that are free, and all.
    ///
    /// # Errors
    /// The driver reports an earlier failure.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.stream.context().mem_get_info().during(|| "asking for free GPU memory".to_owned())
    }

    /// Waits until the stream has done all that was put on it.
    ///
    /// # Errors
    /// Something of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().during(|| "waiting for the GPU".to_owned())
    }

    /// The stream that all work is put on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// cuDNN on this stream.
    pub(super) fn cudnn(&self) -> &Cudnn {
        &self.cudnn
    }

    /// Makes the GPU current in this thread, which every call of the driver needs.
    pub(super) fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().during(|| "choosing the GPU".to_owned())
    }

    fn function(&self, name: &str) -> Result<Function> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(*function);
        }
        let function = self.module.function(name)?;
        functions.insert(name.to_owned(), function);
        Ok(function)
    }
}

/// A kernel of a module.
#[derive(Clone, Copy)]
struct Function(sys::CUfunction);

// SAFETY: a handle that the driver lets every thread use.
unsafe impl Send for Function {}

/// Kernels on the device; unloaded with the context, which the stream keeps.
struct Module(sys::CUmodule);

// SAFETY: a handle that the driver lets every thread use.
unsafe impl Send for Module {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Module {}

impl Module {
    fn load(image: &[u8]) -> Result<Self> {
        // An image's header says how long it is; the stand-in compiler leaves none.
        if image.is_empty() {
            let says = "nothing, as no kernels were compiled: this build was made with a stand-in for nvcc"
                .to_owned();
            return Err(Error::Driver { doing: "loading the kernels".to_owned(), says });
        }
        // SAFETY: a whole fat binary, as nvcc wrote it; the driver keeps a copy.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        module.map(Self).during(|| "loading the kernels".to_owned())
    }

    fn function(&self, name: &str) -> Result<Function> {
        let missing = || Error::NoKernel(name.to_owned());
        let symbol = CString::new(name).map_err(|_| missing())?;
        // SAFETY: the module is loaded.
        match unsafe { result::module::get_function(self.0, symbol) } {
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND)) => Err(missing()),
            found => found.map(Function).during(|| format!("looking up kernel {name}")),
        }
    }
}

/// The CUDA version that the driver supports.
fn driver_version() -> Result<Version> {
    let mut version = 0;
    // SAFETY: writes one integer.
    match unsafe { sys::cuDriverGetVersion(&raw mut version) }.result() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_STUB_LIBRARY)) => return Err(Error::Stub),
        asked => asked.during(|| "asking for the driver's version".to_owned())?,
    }
    let version = version as u32;
    Ok((version / 1000, version % 1000 / 10))
}

/// `13.0` -> (13, 0).
fn version(text: &str) -> Version {
    let mut numbers = text.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The driver's own version, from its kernel module: `580.65.06`.
#[expect(clippy::disallowed_methods, reason = "an absent file is no error, so nothing shows its path")]
fn own_version() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.split_whitespace().find(is_version).map(ToOwned::to_owned)
}
