//! What can go wrong in this crate.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between weights, images and logits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed: wrong shapes, no memory, no kernel on this device.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not a readable safetensors file.
    #[error("{}: not a readable safetensors file: {message}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// Not a readable PyTorch state dict.
    #[error("{}: not a readable PyTorch state dict: {message}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// Not an ONNX file, or one of another network.
    #[error("{}: not a ResNet in ONNX that can be read: {message}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The labels in a model file's metadata are none.
    #[error("{}: labels in the metadata: {message}", path.display())]
    BadLabels {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// A file has a backbone only where a whole model is needed.
    #[error("{}: expected a model with heads and their labels, found a backbone only; give a checkpoint's \
             model.safetensors or a converted FairFace file", path.display())]
    NoHeads {
        /// The file.
        path: PathBuf,
    },
    /// The tensors of a file do not fit the network.
    #[error("{}: weights do not fit the network:{}", path.display(), problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// One line for every missing, extra or wrongly shaped tensor, and for every value that cannot be.
        problems: Vec<String>,
    },
    /// No tensor of this name in the model.
    #[error("the model has no tensor named `{name}`")]
    UnknownTensor {
        /// The name asked for.
        name: String,
    },
    /// The images cannot go through the network.
    #[error("expected images of shape (B, 3, H, W) with H and W of at least {min}, found {found:?}", min = ff_kernels::network::MIN_IMAGE_SIZE)]
    ImageShape {
        /// The shape found.
        found: Vec<usize>,
    },
    /// Pixels on the GPU for an execution that takes planes.
    #[error("expected normalised planes, found pixels on the GPU: only the fast engine takes those")]
    NotPlanes,
    /// Nothing computes with this precision here.
    #[error("precision {precision} needs engine fast and device cuda{}, found {device} with engine {}; use precision f32", or_bf16(*precision), engine.name())]
    Precision {
        /// The precision asked for.
        precision: crate::Precision,
        /// The engine.
        engine: crate::Engine,
        /// Where it computes.
        device: &'static str,
    },
    /// The GPU, its driver or cuDNN refuse.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Gpu(#[from] ff_kernels::gpu::device::Error),
    /// Statistics of a batch that are not as many as the running ones.
    #[error("batch statistics: expected {expected} values, found {found}")]
    StatisticsLength {
        /// Number of running statistics.
        expected: usize,
        /// Number of values.
        found: usize,
    },
    /// `backward` without a `forward_train` before it.
    #[error("backward needs a training forward pass of its own before it")]
    NoForward,
    /// The device asked for cannot be used.
    #[error("{0}")]
    Device(String),
}

/// What else has the precision.
const fn or_bf16(precision: crate::Precision) -> &'static str {
    match precision {
        crate::Precision::Bf16 => " or a CPU with AVX-512 BF16",
        crate::Precision::F32 { .. } => "",
    }
}
