//! The numbers that a backbone computes with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{DeviceSpec, Engine};

/// What activations and convolutions are computed in. Parameters, their gradients, statistics and optimiser states are
/// f32 with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Precision {
    /// bfloat16 activations, sums in f32: the fast engine, on CUDA and on a CPU with AVX-512 BF16.
    Bf16,
    /// f32 throughout.
    F32 {
        /// Whether convolutions may round their inputs to TF32's 10 bits, as tensor cores need: the fast engine on
        /// CUDA.
        tf32: bool,
    },
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F32 { tf32: false }, Self::F32 { tf32: true }];

    /// bf16 for the fast engine on CUDA, else f32.
    pub const fn default_for(device: DeviceSpec, engine: Engine) -> Self {
        match (device, engine) {
            (DeviceSpec::Cuda(_), Engine::Fast) => Self::Bf16,
            _ => Self::F32 { tf32: false },
        }
    }

    /// The fastest that gives bf16's results or f32's: bf16 for the fast engine where the device multiplies it, else
    /// f32.
    pub fn auto_for(device: DeviceSpec, engine: Engine) -> Self {
        match (device, engine) {
            (DeviceSpec::Cpu, Engine::Fast) if Self::Bf16.runs_on_this_cpu() => Self::Bf16,
            _ => Self::default_for(device, engine),
        }
    }

    /// Whether the fast engine computes with it on this machine's CPU.
    pub fn runs_on_this_cpu(self) -> bool {
        match self {
            Self::Bf16 => ff_kernels::Level::best().has_bf16(),
            Self::F32 { tf32 } => !tf32,
        }
    }

    /// The name used on the command line and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 { tf32: false } => "f32",
            Self::F32 { tf32: true } => "tf32",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|precision| precision.name() == s);
        named.ok_or_else(|| format!("expected bf16, f32 or tf32, found `{s}`"))
    }
}

impl TryFrom<String> for Precision {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Precision> for String {
    fn from(precision: Precision) -> Self {
        precision.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse(), Ok(precision));
        }
        assert!("fp16".parse::<Precision>().unwrap_err().contains("expected bf16, f32 or tf32"));
    }
}
