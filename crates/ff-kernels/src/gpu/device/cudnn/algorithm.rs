//! A way to do a convolution, as it was found.

use std::fmt;

use super::graph::Graph;
use super::plan::Plan;

/// The way that was found to be fastest.
pub(in crate::gpu::device) struct Algorithm {
    /// Before what it refers to.
    pub(super) plan: Plan,
    pub(super) _graph: Graph,
    /// Whether bias, residual and ReLU of a fused operation are part of it.
    pub(super) whole: bool,
    pub(super) milliseconds: f32,
}

impl Algorithm {
    /// Bytes to work in.
    pub(in crate::gpu::device) fn workspace(&self) -> usize {
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
