//! What the machine has: for the lines printed at the start, `run.json`, and the benches.

use serde::Serialize;

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
        }
    }
}

/// The most memory that this process has had resident, MiB; known on Linux only.
pub fn peak_rss_mib() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_covers_what_was_touched() {
        // Opaque to the optimiser, which would else leave it out.
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(super::peak_rss_mib().unwrap() >= 64, "{} bytes were resident", touched.len());
    }
}
