//! A convolution bound to its algorithm and its memory.

use std::sync::Arc;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::algorithm::Algorithm;
use super::descriptor::{Descriptor, Pointer};
use super::graph;
use crate::gpu::device::driver::Gpu;
use crate::gpu::error::Result;
use crate::gpu::{Arg, BLOCK, Bases, Convolve, Geometry, Launch, Operation};

/// A convolution with its algorithm and addresses, ready to run.
pub(in crate::gpu::device) struct Convolution {
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
    pub(in crate::gpu::device) fn new(
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
    pub(in crate::gpu::device) unsafe fn run(&self, gpu: &Gpu, bases: &Bases) -> Result<()> {
        gpu.bind()?;
        // SAFETY: the caller's promise; `rest` makes a launch of this convolution's sizes.
        unsafe {
            gpu.cudnn().execute(&self.algorithm.plan, &self.pack)?;
            self.rest.as_ref().map_or(Ok(()), |launch| gpu.launch(launch, bases))
        }
    }

    /// `256x56x56x64 -> 56x56x64, 3x3/1, bf16 Forward: engine 62, 0.213 ms, ...`
    pub(in crate::gpu::device) fn describe(&self, convolve: &Convolve) -> String {
        format!("{}: {}", label(convolve), self.algorithm)
    }
}

/// Which tensor lies where.
pub(super) fn variant_pack(
    convolve: &Convolve,
    whole: bool,
    bases: &Bases,
    workspace: u64,
) -> Result<Descriptor> {
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

/// `256x56x56x64 -> 56x56x64, 3x3/1, bf16 Forward`
pub(super) fn label(convolve: &Convolve) -> String {
    let Geometry { batch, height, width, inputs, outputs, kernel, stride, .. } = convolve.geometry;
    let (rows, columns) = convolve.geometry.output();
    format!(
        "{batch}x{height}x{width}x{inputs} -> {rows}x{columns}x{outputs}, {kernel}x{kernel}/{stride}, {} {:?}",
        convolve.element, convolve.operation
    )
}
