//! The FairFace network: a ResNet backbone, a shared projection and one head a task; its weights in and out.
//!
//! It knows tensors, not CSV files: somebody who wants embeddings only takes this crate alone.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use ff_model::{Architecture, Compute, Engine, FaceModel, HeadSpec};
//!
//! # fn main() -> ff_model::Result<()> {
//! let heads = [HeadSpec::new("age", 9), HeadSpec::new("gender", 2), HeadSpec::new("race", 7)];
//! let mut model = FaceModel::new(Architecture::Resnet34, &heads, &Compute::cpu(Engine::Fast), 0)?;
//! let images = Tensor::zeros((2, 3, 64, 64), DType::F32, &Device::Cpu)?;
//! let prediction = model.predict(&images)?;
//! assert_eq!(prediction.embedding.dims(), [2, 512]);
//! assert_eq!(prediction.logits[0].dims(), [2, 9]);
//! # Ok(())
//! # }
//! ```

mod architecture;
mod backbone;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod error;
mod fast;
pub mod heads;
pub mod host;
mod images;
pub mod init;
pub mod layout;
mod model;
pub mod onnx;
mod parameters;
mod pixels;
mod precision;
pub mod reference;
pub mod summary;
pub mod weights;

pub use architecture::Architecture;
pub use backbone::{Backbone, Compute, Engine};
#[cfg(feature = "cuda")]
pub use cuda::{Cuda, Held};
pub use device::DeviceSpec;
pub use error::{Error, Result};
pub use fast::Fast;
pub use ff_core::argmax;
pub use heads::{Dropout, HeadSpec};
pub use images::Images;
pub use layout::ParameterLayout;
pub use model::{BackboneMode, FaceModel, Prediction, TrainPass};
pub use parameters::Parameters;
pub use pixels::image_tensor;
pub use precision::Precision;
pub use weights::TaskLabels;
