//! Convolutions by cuDNN's graph interface, each in the way that is fastest on this GPU.
//!
//! For every distinct (shapes, operation, element) cuDNN names engines, of which some are timed once; the fastest is
//! remembered as long as the [`Gpu`] lives. What one convolution needs to run, its addresses included, is bound
//! beforehand, so that running is one call.
//!
//! Deterministic engines are preferred: with one choice of engines the same batch gives the same bits. The choice itself
//! is a matter of microseconds, hence not the same on every start.

mod descriptor;
mod graph;
mod plan;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cudnn::sys;
use cudarc::driver::{CudaStream, sys as driver};
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::driver::{During, Gpu};
use super::memory::DeviceBytes;
use super::{Error, Result};
use crate::gpu::{Arg, BLOCK, Bases, Convolve, Element, Geometry, Launch, Operation};
use descriptor::{Descriptor, Pointer, check};
use graph::Graph;
use plan::{Demands, Plan, Target};

/// Runs of a plan before it is timed.
const WARM_UPS: usize = 3;
/// Timed runs, of which the median counts.
const RUNS: usize = 5;

/// What an algorithm is for.
type Key = (Geometry, Operation, Element, bool);

/// cuDNN on a stream.
pub(super) struct Cudnn {
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

/// The way that was found to be fastest.
pub(super) struct Algorithm {
    /// Before what it refers to.
    plan: Plan,
    _graph: Graph,
    /// Whether bias, residual and ReLU of a fused operation are part of it.
    whole: bool,
    milliseconds: f32,
}

impl Algorithm {
    /// Bytes to work in.
    pub(super) fn workspace(&self) -> usize {
        self.plan.workspace
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { engine, workspace, deterministic, .. } = self.plan;
        write!(
            f,
            "engine {engine}, {:.3} ms, {:.1} MiB workspace",
            self.milliseconds,
            workspace as f64 / 1048576.0
        )?;
        if !self.whole {
            f.write_str(", bias in a kernel of its own")?;
        }
        if !deterministic {
            f.write_str(", not deterministic")?;
        }
        Ok(())
    }
}

impl Cudnn {
    /// A handle on the device that is current, for work on `stream`.
    ///
    /// # Errors
    /// cuDNN refuses.
    pub(super) fn new(stream: &CudaStream) -> Result<Self> {
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

    /// The fastest way to do a convolution, timed on its own memory unless it was found before.
    ///
    /// # Errors
    /// cuDNN has none, or the driver refuses.
    pub(super) fn fastest(
        gpu: &Arc<Gpu>,
        convolve: &Convolve,
        bases: &Bases,
        tf32: bool,
    ) -> Result<Arc<Algorithm>> {
        let key = (convolve.geometry, convolve.operation, convolve.element, tf32);
        let found = || gpu.cudnn().found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = found().get(&key) {
            return Ok(Arc::clone(algorithm));
        }
        let algorithm = Arc::new(search(gpu, convolve, bases, tf32)?);
        found().insert(key, Arc::clone(&algorithm));
        Ok(algorithm)
    }

    fn plans(
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
    unsafe fn execute(&self, plan: &Plan, pack: &Descriptor) -> Result<()> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: all three are finalised and of this device; the addresses are the caller's promise.
        let status = unsafe { sys::cudnnBackendExecute(handle.0, plan.descriptor().raw(), pack.raw()) };
        check(status, || format!("running engine {}", plan.engine))
    }
}

/// A convolution with its algorithm and addresses, ready to run.
pub(super) struct Convolution {
    algorithm: Arc<Algorithm>,
    pack: Descriptor,
    /// What the algorithm leaves out.
    rest: Option<Launch>,
}

impl Convolution {
    /// Binds a convolution, to work in the memory at `workspace`.
    ///
    /// # Errors
    /// cuDNN refuses.
    pub(super) fn new(
        algorithm: Arc<Algorithm>,
        convolve: &Convolve,
        bases: &Bases,
        workspace: u64,
    ) -> Result<Self> {
        let pack = variant_pack(convolve, algorithm.whole, bases, workspace)?;
        let rest = (!algorithm.whole).then(|| rest(convolve));
        Ok(Self { algorithm, pack, rest })
    }

    /// Puts it on the stream; `bases` as it was bound with.
    ///
    /// # Errors
    /// cuDNN or the driver refuses, or reports an earlier failure.
    ///
    /// # Safety
    /// The memory that it was bound to, and that of `bases`, holds its tensors and stays until the stream has passed.
    pub(super) unsafe fn run(&self, gpu: &Gpu, bases: &Bases) -> Result<()> {
        gpu.bind()?;
        // SAFETY: the caller's promise; `rest` makes a launch of this convolution's sizes.
        unsafe {
            gpu.cudnn().execute(&self.algorithm.plan, &self.pack)?;
            self.rest.as_ref().map_or(Ok(()), |launch| gpu.launch(launch, bases))
        }
    }

    /// `256x56x56x64 -> 56x56x64, 3x3/1, bf16 Forward: engine 62, 0.213 ms, ...`
    pub(super) fn describe(&self, convolve: &Convolve) -> String {
        format!("{}: {}", label(convolve), self.algorithm)
    }
}

/// The fastest of what cuDNN offers; a fused operation that it has no engine for is taken apart.
fn search(gpu: &Arc<Gpu>, convolve: &Convolve, bases: &Bases, tf32: bool) -> Result<Algorithm> {
    gpu.bind()?;
    let demands = Demands::new(convolve.element, tf32);
    let attempt = |operation, whole| {
        let (graph, plans) = gpu.cudnn().plans(&convolve.geometry, operation, demands)?;
        let (plan, milliseconds) = fastest_of(plans, gpu, convolve, whole, bases)?;
        Ok(Algorithm { plan, _graph: graph, whole, milliseconds })
    };
    match (attempt(convolve.operation, true), convolve.operation) {
        (Err(_), Operation::Fused { .. }) => attempt(Operation::Forward, false),
        (found, _) => found,
    }
}

/// Times plans; those that do not run are passed over.
fn fastest_of(
    plans: Vec<Plan>,
    gpu: &Arc<Gpu>,
    convolve: &Convolve,
    whole: bool,
    bases: &Bases,
) -> Result<(Plan, f32)> {
    let mut refused = None;
    let mut fastest: Option<(Plan, f32)> = None;
    for plan in plans {
        match time(gpu, &plan, convolve, whole, bases) {
            Ok(milliseconds) => {
                if fastest.as_ref().is_none_or(|(_, best)| milliseconds < *best) {
                    fastest = Some((plan, milliseconds));
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    fastest.ok_or_else(|| {
        refused.unwrap_or_else(|| Error::Cudnn {
            doing: format!("looking for a way to do {}", label(convolve)),
            says: "that it has no engine for it".to_owned(),
        })
    })
}

/// The median of some runs, in milliseconds.
fn time(gpu: &Arc<Gpu>, plan: &Plan, convolve: &Convolve, whole: bool, bases: &Bases) -> Result<f32> {
    let doing = || format!("timing {}", label(convolve));
    let workspace = DeviceBytes::uninitialised(gpu, plan.workspace)?;
    let pack = variant_pack(convolve, whole, bases, workspace.address())?;
    let event =
        || gpu.stream().context().new_event(Some(driver::CUevent_flags::CU_EVENT_DEFAULT)).during(doing);
    let (start, end) = (event()?, event()?);
    let run = || {
        start.record(gpu.stream()).during(doing)?;
        // SAFETY: tensors within the memory that `bases` has, and a workspace that is freed when the stream has passed.
        unsafe { gpu.cudnn().execute(plan, &pack)? };
        end.record(gpu.stream()).during(doing)?;
        start.elapsed_ms(&end).during(doing)
    };
    for _ in 0..WARM_UPS {
        run()?;
    }
    let mut times: Vec<f32> = (0..RUNS).map(|_| run()).collect::<Result<_>>()?;
    times.sort_unstable_by(f32::total_cmp);
    Ok(times[RUNS / 2])
}

/// Which tensor lies where.
fn variant_pack(convolve: &Convolve, whole: bool, bases: &Bases, workspace: u64) -> Result<Descriptor> {
    let Convolve { x, w, y, bias, residual, .. } = *convolve;
    let mut tensors = vec![(graph::X, x), (graph::W, w), (graph::Y, y)];
    if whole {
        tensors.extend(bias.map(|bias| (graph::BIAS, bias)));
        tensors.extend(residual.map(|residual| (graph::RESIDUAL, residual)));
    }
    let (uids, places): (Vec<i64>, Vec<_>) = tensors.into_iter().unzip();
    let pointers: Vec<Pointer> = places.into_iter().map(|place| Pointer(bases.address(place))).collect();
    Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
        .set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &uids)?
        .set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &pointers)?
        .set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[Pointer(workspace)])?
        .finalize("a variant pack")
}

/// Bias, residual and ReLU of a fused operation, in place.
fn rest(convolve: &Convolve) -> Launch {
    /// Channels that a thread of the kernel works on.
    const LANES: usize = 8;
    let relu = matches!(convolve.operation, Operation::Fused { relu: true, .. });
    let (len, channels) = (convolve.geometry.y_len(), convolve.geometry.outputs);
    let at = |place: Option<_>| place.map_or(Arg::Null, Arg::At);
    Launch {
        kernel: format!("bias_act_{}", convolve.element),
        grid: [len.div_ceil(LANES * BLOCK as usize) as u32, 1, 1],
        args: vec![
            Arg::At(convolve.y),
            at(convolve.bias),
            at(convolve.residual),
            Arg::U32((len / channels) as u32),
            Arg::U32(channels as u32),
            Arg::U32(u32::from(relu)),
        ],
    }
}

fn label(convolve: &Convolve) -> String {
    let Geometry { batch, height, width, inputs, outputs, kernel, stride, .. } = convolve.geometry;
    let (rows, columns) = convolve.geometry.output();
    format!(
        "{batch}x{height}x{width}x{inputs} -> {rows}x{columns}x{outputs}, {kernel}x{kernel}/{stride}, {} {:?}",
        convolve.element, convolve.operation
    )
}
