//! Whether there is room for a cache, told before it is made.

use std::path::Path;

use crate::error::{Error, Result};

/// Refuses a cache that would leave no tenth of the memory that can be had; anything goes where that is not known.
pub(super) fn memory(bytes: u64) -> Result<()> {
    match available_memory() {
        Some(free) if bytes > free / 10 * 9 => refuse(bytes, free, "memory"),
        _ => Ok(()),
    }
}

/// Refuses a file that does not fit on its disk.
pub(super) fn disk(bytes: u64, dir: &Path) -> Result<()> {
    match ff_core::disk::free(dir) {
        Some(free) if bytes > free => refuse(bytes, free, &dir.display().to_string()),
        _ => Ok(()),
    }
}

/// Bytes of the disk that a file holds already.
#[cfg(unix)]
pub(super) fn taken(file: &Path) -> u64 {
    const BLOCK: u64 = 512;
    fs_err::metadata(file).map_or(0, |metadata| BLOCK * std::os::unix::fs::MetadataExt::blocks(&metadata))
}

#[cfg(not(unix))]
pub(super) fn taken(_file: &Path) -> u64 {
    0
}

fn refuse(bytes: u64, free: u64, place: &str) -> Result<()> {
    let mib = |bytes: u64| bytes >> 20;
    let (needed, free) = (mib(bytes), mib(free));
    Err(Error::Config(format!(
        "cache of {needed} MiB: expected room for it in {place}, found {free} MiB free"
    )))
}

/// Linux says what can be had without swapping, and how much a container may still take.
fn available_memory() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10;
    let number = |name: &str| {
        let text = fs_err::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let container = number("memory.max").zip(number("memory.current"));
    Some(container.map_or(free, |(limit, used)| free.min(limit.saturating_sub(used))))
}
