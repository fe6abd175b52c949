//! What the machine has: for the lines printed at the start, `run.json`, and the benches.

// Without CUDA there is no GPU to look at.
#[cfg_attr(not(feature = "cuda"), path = "machine/no_gpu.rs")]
mod gpu;
mod processor;

use ff_model::{DeviceSpec, Precision};
use serde::Serialize;

pub use gpu::gpu;
pub use processor::{Processor, load_average};

use crate::Result;

/// The machine as a run finds it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory that can be had without swapping, MiB.
    pub free_memory_mib: u64,
    /// All memory, MiB.
    pub memory_mib: u64,
    /// Operating system.
    pub os: &'static str,
    /// Processor architecture.
    pub arch: &'static str,
    /// The GPU that is computed on, with its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
}

impl Machine {
    /// Looks now.
    pub fn look() -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            free_memory_mib: system.available_memory() >> 20,
            memory_mib: system.total_memory() >> 20,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            gpu: None,
        }
    }

    /// The same with the GPU that `device` names, if it names one.
    ///
    /// # Errors
    /// There is none, or its driver refuses.
    pub fn with_gpu(self, device: DeviceSpec) -> Result<Self> {
        let describe =
            |gpu: Gpu| format!("{} with {:.0} GiB", gpu.name, gpu.total as f64 / f64::from(1 << 30));
        Ok(Self { gpu: gpu(device)?.map(describe), ..self })
    }
}

/// A GPU, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// As its driver calls it.
    pub name: String,
    /// Bytes of its memory that nobody uses.
    pub free: usize,
    /// All bytes of its memory.
    pub total: usize,
}

/// What a GPU of this name computes at most in dense matrix products, TFLOP/s by its maker's data sheet; `None` for
/// those that are not listed.
pub fn peak_tflops(name: &str, precision: Precision) -> Option<f64> {
    let [bf16, tf32, f32] = match name {
        name if name.contains("H100 PCIe") => [756.0, 378.0, 51.0],
        name if name.contains("H100 NVL") => [835.0, 417.5, 60.0],
        name if ["H100", "H200"].iter().any(|gpu| name.contains(gpu)) => [989.0, 494.0, 67.0],
        name if name.contains("A100") => [312.0, 156.0, 19.5],
        _ => return None,
    };
    Some(match precision {
        Precision::Bf16 => bf16,
        Precision::F32 { tf32: true } => tf32,
        Precision::F32 { tf32: false } => f32,
    })
}

/// Bytes of memory that can be had without swapping: what the machine has free, and no more than a container's limit.
/// `None` where the system does not say.
pub fn free_memory() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let free = Some(system.available_memory()).filter(|&free| free > 0)?;
    // What a container has used of its limit counts files that were read, which it gives back: the limit alone is sure.
    Some(system.cgroup_limits().map_or(free, |limits| limits.total_memory.min(free)))
}

/// The most memory that this process has had resident, MiB; known on Linux only.
pub fn peak_rss_mib() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_known_by_name() {
        let f32 = Precision::F32 { tf32: false };
        assert_eq!(peak_tflops("NVIDIA H200", Precision::Bf16), Some(989.0));
        assert_eq!(peak_tflops("NVIDIA H100 80GB HBM3", Precision::F32 { tf32: true }), Some(494.0));
        assert_eq!(peak_tflops("NVIDIA H100 PCIe", Precision::Bf16), Some(756.0));
        assert_eq!(peak_tflops("NVIDIA A100-SXM4-80GB", f32), Some(19.5));
        assert_eq!(peak_tflops("Voodoo2", f32), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_covers_what_was_touched() {
        // Opaque to the optimiser, which would else leave it out.
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_rss_mib().unwrap() >= 64, "{} bytes were resident", touched.len());
    }
}
