//! A process at one moment, by Linux's `/proc`.

use std::path::PathBuf;
use std::process::{Child, Command};

use fs_err as fs;

/// Clock ticks a second in `/proc/PID/stat`: Linux has shown 100 to every program for decades.
const TICKS: f64 = 100.0;
/// What memory may grow by: an allocator's own wavering.
pub const MEMORY_GROWTH: f64 = 1.05;

/// The process at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pub cpu_s: f64,
    pub rss_mib: f64,
    pub handles: usize,
    pub threads: usize,
}

impl Process {
    /// `None` where it has just ended.
    pub fn look(child: &Child) -> Option<Self> {
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        let status = fs::read_to_string(process.join("status")).ok()?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        // The name of the program may have blanks; what follows it are numbers.
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |i: usize| -> Option<f64> { numbers.get(i)?.parse().ok() };
        Some(Self {
            cpu_s: (ticks(11)? + ticks(12)?) / TICKS,
            rss_mib: field("VmRSS:")? / 1024.0,
            handles: fs::read_dir(process.join("fd")).ok()?.count(),
            threads: field("Threads:")? as usize,
        })
    }
}

/// Asks a process to stop, as a scheduler does, and waits for its end.
pub fn terminate(child: &mut Child) -> std::io::Result<Option<i32>> {
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
    Ok(child.wait()?.code())
}
