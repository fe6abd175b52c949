//! Where to compute: `cpu`, or `cuda[:i]` in a build with the `cuda` feature.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A device by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceSpec {
    /// The CPU.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(usize),
}

impl DeviceSpec {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] without the `cuda` feature (saying how to build with it) or without such a GPU.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !candle_core::utils::cuda_is_available() => Err(Error::Device(format!(
                "device {self}: this build has no CUDA; build with `cargo build --release --package ff-cli --features cuda` \
                 where nvcc of CUDA 13 is on the PATH, or use --device cpu"
            ))),
            Self::Cuda(ordinal) => {
                open_cuda(ordinal).map_err(|e| Error::Device(format!("device {self}: {e}")))
            }
        }
    }
}

/// A stream of its own: the default one cannot be captured as a graph.
#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> Result<Device> {
    ff_kernels::gpu::device::Gpu::look(ordinal)?;
    Ok(Device::new_cuda_with_stream(ordinal)?)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(ordinal: usize) -> Result<Device> {
    Ok(Device::new_cuda(ordinal)?)
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let ordinal = match s.split_once(':') {
            None if s == "cpu" => return Ok(Self::Cpu),
            None if s == "cuda" => Some(0),
            Some(("cuda", ordinal)) => ordinal.parse().ok(),
            _ => None,
        };
        ordinal.map(Self::Cuda).ok_or(format!("expected cpu, cuda or cuda:N, found `{s}`"))
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<DeviceSpec> for String {
    fn from(device: DeviceSpec) -> Self {
        device.to_string()
    }
}
