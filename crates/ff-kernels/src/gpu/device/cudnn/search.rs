//! The search for the fastest way to do a convolution: some of cuDNN's engines are timed, once each.

use std::sync::Arc;

use cudarc::driver::sys as driver;

use super::algorithm::Algorithm;
use super::convolution::{label, variant_pack};
use super::plan::{Demands, Plan};
use crate::gpu::device::driver::{During, Gpu};
use crate::gpu::device::memory::DeviceBytes;
use crate::gpu::error::{Error, Result};
use crate::gpu::{Bases, Convolve, Operation};

/// Runs of a plan before it is timed.
const WARM_UPS: usize = 3;
/// Timed runs, of which the median counts.
const RUNS: usize = 5;

/// The fastest way to do a convolution, timed on its own memory unless it was found before.
///
/// # Errors
/// cuDNN has none, or the driver refuses.
pub(in crate::gpu::device) fn fastest(
    gpu: &Arc<Gpu>,
    convolve: &Convolve,
    bases: &Bases,
    tf32: bool,
) -> Result<Arc<Algorithm>> {
    let key = (convolve.geometry, convolve.operation, convolve.element, tf32);
    if let Some(algorithm) = gpu.cudnn().found(&key) {
        return Ok(algorithm);
    }
    let algorithm = Arc::new(search(gpu, convolve, bases, tf32)?);
    gpu.cudnn().remember(key, &algorithm);
    Ok(algorithm)
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
