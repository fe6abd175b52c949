//! The ways that cuDNN knows to do an operation, those that we want among them, and the plans made of them.

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendBehaviorNote_t as Behaviour;
use sys::cudnnBackendDescriptorType_t as Kind;
use sys::cudnnBackendHeurMode_t as Heuristic;
use sys::cudnnBackendNumericalNote_t as Numerical;

use super::descriptor::{Descriptor, Note};
use super::graph::Graph;
use crate::gpu::error::Result;
use crate::gpu::{Element, Geometry, Operation};

/// Plans that are timed.
const MOST_PLANS: usize = 16;
/// Configurations of one mode that are looked at, the likely fastest first.
const MOST_CONFIGURATIONS: usize = 64;
/// Bytes that a plan may work in.
const MOST_WORKSPACE: usize = 1 << 30;
/// Room for an engine's notes: there are ten of one kind and five of the other.
const MOST_NOTES: usize = 32;

/// The GPU that plans are for.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// That of a handle.
    Handle(sys::cudnnHandle_t),
    /// One described by its properties; it need not be there.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests make plans where there is no GPU"))]
    Properties(&'a Descriptor),
}

/// A way to do an operation, ready to run.
pub(super) struct Plan {
    plan: Descriptor,
    _configuration: Descriptor,
    /// Bytes to work in.
    pub(super) workspace: usize,
    /// The number of cuDNN's engine.
    pub(super) engine: i64,
    /// Whether the same inputs give the same bits.
    pub(super) deterministic: bool,
}

impl Plan {
    /// For execution.
    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.plan
    }
}

/// What we ask of an engine beside the right result.
#[derive(Clone, Copy)]
pub(super) struct Demands {
    element: Element,
    tf32: bool,
}

impl Demands {
    pub(super) fn new(element: Element, tf32: bool) -> Self {
        Self { element, tf32 }
    }

    /// Sums are f32 always; f32 inputs are not rounded unless TF32 is allowed; no transform that loses digits.
    fn accept(self, numerical: &[Note<false>], behaviour: &[Note<true>]) -> bool {
        use Numerical::*;
        let mut unwanted = vec![
            CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
            CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
            CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13,
        ];
        if self.element == Element::F32 && !self.tf32 {
            unwanted.extend([CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS]);
        }
        let reordering = [
            Behaviour::CUDNN_BEHAVIOR_NOTE_REQUIRES_FILTER_INT8x32_REORDER,
            Behaviour::CUDNN_BEHAVIOR_NOTE_REQUIRES_BIAS_INT8x32_REORDER,
        ];
        unwanted.into_iter().all(|note| !numerical.contains(&Note(note as u32)))
            && reordering.into_iter().all(|note| !behaviour.contains(&Note(note as u32)))
    }
}

/// Plans for an operation, the likely fastest first; deterministic ones only, unless there are none.
///
/// # Errors
/// cuDNN refuses the shapes. An operation that it has no engine for gives no plans.
pub(super) fn plans(
    target: Target<'_>,
    geometry: &Geometry,
    operation: Operation,
    demands: Demands,
) -> Result<(Graph, Vec<Plan>)> {
    let handle = match target {
        Target::Handle(handle) => Some(handle),
        Target::Properties(_) => None,
    };
    let graph = Graph::new(geometry, operation, demands.element, handle)?;
    let mut plans = Vec::new();
    let mut nondeterministic = Vec::new();
    for mode in [Heuristic::CUDNN_HEUR_MODE_A, Heuristic::CUDNN_HEUR_MODE_FALLBACK] {
        for configuration in configurations(target, &graph, mode)? {
            if plans.len() == MOST_PLANS {
                break;
            }
            // What cannot be made into a plan is left out: cuDNN lists engines before it tries them.
            match plan(target, configuration, demands) {
                Ok(Some(plan)) if plan.deterministic => plans.push(plan),
                Ok(Some(plan)) if nondeterministic.len() < MOST_PLANS => nondeterministic.push(plan),
                Ok(_) | Err(_) => {}
            }
        }
    }
    if plans.is_empty() {
        plans = nondeterministic;
    }
    Ok((graph, plans))
}

/// Engines with their settings; none where a mode knows none.
fn configurations(target: Target<'_>, graph: &Graph, mode: Heuristic) -> Result<Vec<Descriptor>> {
    let mut heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .refer(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.descriptor()])?
        .set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
    if let Target::Properties(properties) = target {
        heuristic = heuristic.refer(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &[properties])?;
    }
    let Ok(heuristic) = heuristic.finalize("a heuristic") else { return Ok(Vec::new()) };
    let count = heuristic.count(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS)?.min(MOST_CONFIGURATIONS);
    let empty = (0..count).map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    heuristic.get_descriptors(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, empty.collect::<Result<_>>()?)
}

/// The plan of a configuration, if it is one that we want.
fn plan(target: Target<'_>, configuration: Descriptor, demands: Demands) -> Result<Option<Plan>> {
    let empty = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    let engine = configuration.get_descriptors(Name::CUDNN_ATTR_ENGINECFG_ENGINE, vec![empty])?;
    let Some(engine) = engine.first() else { return Ok(None) };
    let numerical = engine.get(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, MOST_NOTES)?;
    let behaviour = engine.get(Name::CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, MOST_NOTES)?;
    if !demands.accept(&numerical, &behaviour) {
        return Ok(None);
    }
    let number: Vec<i64> = engine.get(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, 1)?;
    let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
    let plan = match target {
        Target::Handle(handle) => plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[handle])?,
        Target::Properties(properties) => {
            plan.refer(Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, &[properties])?
        }
    };
    let plan =
        plan.refer(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[&configuration])?.finalize("a plan")?;
    let workspace: Vec<i64> = plan.get(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 1)?;
    let workspace = workspace.first().copied().unwrap_or(0).max(0) as usize;
    let nondeterministic = Note(Numerical::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC as u32);
    let plan = Plan {
        plan,
        _configuration: configuration,
        workspace,
        engine: number.first().copied().unwrap_or(-1),
        deterministic: !numerical.contains(&nondeterministic),
    };
    Ok((workspace <= MOST_WORKSPACE).then_some(plan))
}

#[cfg(test)]
mod tests;
